"""Headers of each instrument family, written by hand from their conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ingest_inputs import settings
from trapline.image_ingest.bands import choose_band
from trapline.image_ingest.cards import Cards, quiet
from trapline.image_ingest.header import Metadata, read_header

CELESTIAL = """
CTYPE1  = 'RA---SIN'
CRVAL1  = 123.4
CDELT1  = -0.01
CRPIX1  = 33.0
CTYPE2  = 'DEC--SIN'
CRVAL2  = 45.6
CDELT2  = 0.01
CRPIX2  = 33.0
"""

# Headers as each family writes them, reduced to what matters, and what they say: instrument, beam, band, Stokes, start,
# exposure.
FAMILIES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "AARTFAAC, from its imager": (
        """
TELESCOP= 'LOFAR   '
INSTRUME= 'AARTFAAC'
BUNIT   = 'JY/BEAM '
BMAJ    = 1.05
BMIN    = 0.93
BPA     = 12.0
RESTFRQ = 60156250.0
RESTBW  = 195312.5
DATE-OBS= '2016-11-10T22:00:01.5'
TIMESYS = 'UTC     '
END_UTC = '2016-11-10T22:00:02.5'
CTYPE3  = 'STOKES  '
CRVAL3  = 1.0
CTYPE4  = 'VOPT    '
CRVAL4  = 0.0
""",
        ("aartfaac", (1.05, 0.93, 12.0), "60.059-60.254 MHz", "I", "2016-11-10T22:00:01.500000", 1.0),
    ),
    "AARTFAAC, from the emulator of the predecessor": (
        """
TELESCOP= 'AARTFAAC'
BMAJ    = 1.0
BMIN    = 1.0
BPA     = 0.0
RESTFREQ= '60000000'
DATE-OBS= '2016-11-10T22:00:01'
""",
        ("aartfaac", (1.0, 1.0, 0.0), "60.000-60.000 MHz", "I", "2016-11-10T22:00:01", 1.0),
    ),
    "LOFAR, WSClean": (
        """
TELESCOP= 'LOFAR   '
BUNIT   = 'JY/BEAM '
BMAJ    = 0.0090190970259
BMIN    = 0.0049884351655
BPA     = 38.686
CTYPE3  = 'FREQ    '
CRPIX3  = 1.0
CRVAL3  = 143650817.871094
CDELT3  = 46875000.0
CUNIT3  = 'Hz      '
CTYPE4  = 'STOKES  '
CRPIX4  = 1.0
CRVAL4  = 4.0
CDELT4  = 1.0
SPECSYS = 'TOPOCENT'
DATE-OBS= '2020-10-06T01:26:36.8'
MJD-OBS = 59128.060148148
""",
        (
            "lofar",
            (0.0090190970259, 0.0049884351655, 38.686),
            "120.213-167.088 MHz V",
            "V",
            "2020-10-06T01:26:36.800000",
            0.0,
        ),
    ),
    "AMI-LA, CASA": (
        """
TELESCOP= 'AMI-LA  '
BUNIT   = 'JY/BEAM '
BMAJ    = 1.506752332052E-02
BMIN    = 6.847996711731E-03
BPA     = 5.014526367188E+00
CTYPE3  = 'STOKES  '
CRVAL3  = 1.0
CDELT3  = 1.0
CRPIX3  = 1.0
CTYPE4  = 'VOPT    '
CRVAL4  = -0.0
CDELT4  = -2.495967053152E+07
CRPIX4  = 1.0
CUNIT4  = 'm/s     '
RESTFRQ = 1.650518750500E+10
DATE-OBS= '2012-04-29T17:19:23.001599'
TIMESYS = 'UTC     '
""",
        (
            "ami-la",
            (1.506752332052e-2, 6.847996711731e-3, 5.014526367188),
            "15818.105-17192.270 MHz",
            "I",
            "2012-04-29T17:19:23.001599",
            0.0,
        ),
    ),
    "ASKAP": (
        """
TELESCOP= 'ASKAP   '
BUNIT   = 'Jy/beam '
BMAJ    = 0.004
BMIN    = 0.003
BPA     = 80.0
CTYPE3  = 'STOKES  '
CRVAL3  = 1.0
CTYPE4  = 'FREQ    '
CRVAL4  = 8.874907407407E+08
CDELT4  = 2.880000000000E+08
RESTFRQ = 8.874907407407E+08
DATE-OBS= '2019-08-27T18:52:00.1'
DATE-BEG= '2019-08-27T18:52:00.1'
DATE-END= '2019-08-27T19:04:10.1'
DURATION= 726.0
TIMESYS = 'UTC     '
""",
        ("askap", (0.004, 0.003, 80.0), "743.491-1031.491 MHz", "I", "2019-08-27T18:52:00.100000", 726.0),
    ),
    "MeerKAT, Obit": (
        """
TELESCOP= 'MeerKAT '
BUNIT   = 'JY/BEAM '
CTYPE3  = 'SPECLNMF'
CRVAL3  = 1.2839869E+09
CDELT3  = 7.75E+08
CRPIX3  = 1.0
CTYPE4  = 'STOKES  '
CRVAL4  = 1.0
DATE-OBS= '2021-03-01'
CLEANBMJ= 2.1E-03
CLEANBMN= 2.0E-03
CLEANBPA= -10.0
""",
        ("meerkat", (2.1e-3, 2.0e-3, -10.0), "896.487-1671.487 MHz", "I", "2021-03-01T00:00:00", 0.0),
    ),
    "MWA, linear polarisation": (
        """
TELESCOP= 'MWA     '
BUNIT   = 'Jy/beam '
BMAJ    = 0.05
BMIN    = 0.04
BPA     = 0.0
CTYPE3  = 'FREQ    '
CRVAL3  = 154.88
CDELT3  = 30.72
CUNIT3  = 'MHz     '
CTYPE4  = 'STOKES  '
CRVAL4  = -5.0
DATE-OBS= '2018-02-03 04:05:06'
EXPTIME = 120
""",
        ("mwa", (0.05, 0.04, 0.0), "139.520-170.240 MHz XX", "XX", "2018-02-03T04:05:06", 120.0),
    ),
    "VLA, AIPS": (
        """
TELESCOP= 'VLA     '
BUNIT   = 'JY/BEAM '
CTYPE3  = 'FREQ    '
CRVAL3  = 1.4649E+09
CDELT3  = 5.0E+07
CTYPE4  = 'STOKES  '
CRVAL4  = 1.0
DATE-OBS= '15/03/93'
HISTORY AIPS   CLEAN BMAJ=  9.9999E-03 BMIN=  8.8888E-03 BPA=   1.00
HISTORY AIPS   CLEAN BMAJ=  1.2500E-02 BMIN=  1.0000E-02 BPA= -45.00
HISTORY AIPS   CLEAN NITER=     1000
""",
        ("vla", (0.0125, 0.01, -45.0), "1439.900-1489.900 MHz", "I", "1993-03-15T00:00:00", 0.0),
    ),
    "KAT-7": (
        """
TELESCOP= 'KAT-7   '
BUNIT   = 'Jy/beam '
BMAJ    = 0.05
BMIN    = 0.045
BPA     = 170.0
CTYPE3  = 'STOKES  '
CRVAL3  = 1.0
CTYPE4  = 'FREQ    '
CRVAL4  = 1.822E+09
CDELT4  = 2.344E+08
RESTFRQ = 1.822E+09
DATE-OBS= '2013-05-04T18:59:19.996801'
TIMESYS = 'UTC     '
""",
        ("kat-7", (0.05, 0.045, 170.0), "1704.800-1939.200 MHz", "I", "2013-05-04T18:59:19.996801", 0.0),
    ),
    "Westerbork, old": (
        """
TELESCOP= 'WSRT    '
BUNIT   = 'mJy/beam'
BMAJ    = 0.0041
BMIN    = 0.0035
BPA     = 0.0
CTYPE3  = 'FREQ-OHEL'
CRVAL3  = 3.25E+08
CDELT3  = 1.0E+07
DATE-OBS= 1991.5
""",
        ("wsrt", (0.0041, 0.0035, 0.0), "320.000-330.000 MHz", "I", "1991-07-02T12:00:00", 0.0),
    ),
    "Westerbork, Apertif": (
        """
TELESCOP= 'WSRT    '
INSTRUME= 'APERTIF '
BUNIT   = 'JY/BEAM '
BMAJ    = 7.4E-03
BMIN    = 3.6E-03
BPA     = 0.5
CTYPE3  = 'FREQ    '
CRVAL3  = 1.3605E+09
CDELT3  = 1.5E+08
CUNIT3  = 'Hz      '
CTYPE4  = 'STOKES  '
CRVAL4  = 1.0
DATE-OBS= '2019-10-04T23:14:08.0'
DURATION= 41400.0
TIMESYS = 'UTC     '
""",
        ("wsrt", (7.4e-3, 3.6e-3, 0.5), "1285.500-1435.500 MHz", "I", "2019-10-04T23:14:08", 41400.0),
    ),
    "Zwicky Transient Facility": (
        """
TELESCOP= 'P48     '
INSTRUME= 'ZTF/MOSAIC'
FILTER  = 'ZTF_r   '
FILTERID= 2
BUNIT   = 'DN      '
DATE-OBS= '2018-08-10T05:02:04'
OBSMJD  = 58340.2097736
EXPOSURE= 30.0
SEEING  = 2.16
MAGZP   = 26.3
""",
        ("ztf", (0.0006, 0.0006, 0.0), "r", "I", "2018-08-10T05:02:04.439040", 30.0),
    ),
    "Dark Energy Camera": (
        """
TELESCOP= 'CTIO 4.0-m telescope'
INSTRUME= 'DECam   '
FILTER  = 'r DECam SDSS c0002 6415.0 1480.0'
BUNIT   = 'adu     '
DATE-OBS= '2014-03-29T09:31:37.157513'
MJD-OBS = 56745.39695784
TIME-OBS= '09:31:37.157513'
TIMESYS = 'UTC     '
EXPTIME = 90.0
FWHM    = 4.2
""",
        ("decam", None, "r", "I", "2014-03-29T09:31:37.157513", 90.0),
    ),
    "Las Cumbres Observatory": (
        """
ORIGIN  = 'LCOGT   '
TELESCOP= '1m0-04  '
INSTRUME= 'fa03    '
FILTER  = 'rp      '
BUNIT   = 'electron'
DATE-OBS= '2021-03-01T03:04:05.678'
MJD-OBS = 59274.1278435
UTSTOP  = '03:05:05.678'
TIMESYS = 'UTC     '
EXPTIME = 60.0
L1IDBIAS= 'N/A     '
L1FWHM  = 1.8
""",
        ("lco", (0.0005, 0.0005, 0.0), "rp", "I", "2021-03-01T03:04:05.678000", 60.0),
    ),
    "an optical camera with TAI": (
        """
TELESCOP= '1m0-04  '
INSTRUME= 'fa03    '
FILTER  = 'rp      '
BUNIT   = 'electron'
DATE-OBS= '2021-03-01T03:04:42.000'
TIMESYS = 'TAI     '
EXPTIME = 60.0
SEEING  = 1.8
""",
        ("generic-optical", (0.0005, 0.0005, 0.0), "rp", "I", "2021-03-01T03:04:05", 60.0),
    ),
}


def cards_of(text: str) -> fits.Header:
    with quiet():
        return fits.Header.fromstring("\n".join(line for line in (text + CELESTIAL).splitlines() if line), sep="\n")


def read(made: fits.Header) -> Metadata:
    with quiet():
        cards = Cards(made)
        return read_header(cards, settings().recognise(cards))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_headers_of_each_family_are_read(family: str) -> None:
    text, (instrument, beam, band, stokes, start, exposure_s) = FAMILIES[family]
    found = read(cards_of(text))
    assert found.findings.faults == []
    assert found.instrument.name == instrument
    if beam is None:
        assert (found.beam, found.seeing_px) == (None, 4.2)
    else:
        assert found.beam is not None
        assert (found.beam.major_deg, found.beam.minor_deg, found.beam.pa_deg) == pytest.approx(beam)
    chosen = choose_band(found.spectrum, found.stokes, [])
    assert chosen is not None
    assert (chosen.name, found.stokes) == (band, stokes)
    assert found.timing.start is not None
    assert found.timing.start.value == int(np.datetime64(start, "us").astype(np.int64))
    assert found.timing.exposure.value == exposure_s


def test_what_was_read_is_told_with_its_keys() -> None:
    found = read(cards_of(FAMILIES["LOFAR, WSClean"][0]))
    assert found.keys == {
        "beam": "BMAJ, BMIN, BPA",
        "spectrum": "CTYPE3, CRVAL3",
        "stokes": "CTYPE4, CRVAL4",
        "start": "DATE-OBS",
        "exposure": "",
        "unit": "BUNIT",
    }
