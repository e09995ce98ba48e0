"""Geometry on the sphere, against astropy, where it is easy to be wrong: RA 0, the poles, tiny and huge distances."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from trapline.common import sky

RA = st.floats(0, 359.999999)
DEC = st.floats(-90, 90)


@given(RA, DEC)
def test_vectors_and_positions_are_each_other(ra, dec):
    found_ra, found_dec = sky.vectors_to_sky(sky.unit_vectors(ra, dec) * 7.0)
    assert sky.separation_deg(found_ra, found_dec, ra, dec) < 1e-12
    assert 0 <= found_ra < 360


@given(RA, DEC, RA, DEC)
def test_separations_are_those_of_astropy(ra1, dec1, ra2, dec2):
    expected = SkyCoord(ra1, dec1, unit="deg").separation(SkyCoord(ra2, dec2, unit="deg")).deg
    assert sky.separation_deg(ra1, dec1, ra2, dec2) == pytest.approx(expected, abs=1e-7 if expected > 179 else 1e-11)


def test_small_separations_keep_their_digits():
    step = 1e-9
    assert sky.separation_deg(0.0, 89.0, 0.0, 89.0 + step) == pytest.approx(step, rel=1e-4)
    assert sky.separation_deg(360 - step, 0.0, step, 0.0) == pytest.approx(2 * step, rel=1e-4)


@pytest.mark.parametrize(("ra0", "dec0"), [(0, 0), (359.99, 45), (90, 90), (180, -90), (270, -89.9), (12, 60)])
def test_tangent_offsets_are_those_of_astropy_and_go_back(ra0, dec0):
    random = np.random.default_rng(1)
    centre = SkyCoord(ra0, dec0, unit="deg")
    there = centre.directional_offset_by(random.uniform(0, 360, 50) * u.deg, random.uniform(0, 60, 50) * u.deg)
    east, north = sky.tangent_offsets(there.ra.deg, there.dec.deg, ra0, dec0)
    apart = centre.separation(there)
    np.testing.assert_allclose(np.hypot(east, north), np.degrees(np.tan(apart.rad)), rtol=1e-9, atol=1e-12)
    if abs(dec0) < 90:
        angle = centre.position_angle(there).rad
        np.testing.assert_allclose(np.arctan2(east, north) % (2 * np.pi), angle % (2 * np.pi), atol=1e-9)
    ra, dec = sky.from_tangent(east, north, ra0, dec0)
    assert sky.separation_deg(ra, dec, there.ra.deg, there.dec.deg).max() < 1e-11


def test_what_is_behind_the_tangent_plane_has_no_image():
    east, north = sky.tangent_offsets([100.0, 180.0], [0.0, 0.0], 0.0, 0.0)
    assert np.isnan(east).all() and np.isnan(north).all()


@given(st.floats(-1e6, 1e6))
def test_angles_wrap(angle):
    assert 0 <= sky.wrap_360(angle) < 360
    assert -180 < sky.wrap_180(angle) <= 180


def test_the_smallest_negative_angle_wraps_to_zero():
    assert sky.wrap_360(-1e-17) == 0.0
    assert sky.wrap_180(-180.0) == 180.0


@given(RA, DEC)
def test_the_tangent_basis_is_orthonormal_and_points_east_and_north(ra, dec):
    east, north = sky.tangent_basis(ra, dec)
    here = sky.unit_vectors(ra, dec)
    axes = np.stack([east, north, here])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)
