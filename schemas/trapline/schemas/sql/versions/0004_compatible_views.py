"""Views with the names and columns that users of TraP (releases 4 to 6) query, in the schema `trap`."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# `SET search_path TO trap, public` and old queries run. What differs: ids are UUIDs; the id of a band is its name; an
# image is its own sky region; a source that several objects share has one row in `extractedsource` for each of them;
# columns that nothing here corresponds to are NULL; points that were dropped are not seen (their bins are in `public`).

UNIT_VECTOR = "cosd({dec}) * cosd({ra}) AS x, cosd({dec}) * sind({ra}) AS y, sind({dec}) AS z"

DATASET = """
CREATE VIEW trap.dataset AS
SELECT _id AS id, name AS description, 1::smallint AS type, 0 AS rerun FROM public.dataset
"""

FREQUENCYBAND = """
CREATE VIEW trap.frequencyband AS
SELECT DISTINCT ON (band) band AS id, freq_hz AS freq_central, freq_hz - bandwidth_hz / 2 AS freq_low,
    freq_hz + bandwidth_hz / 2 AS freq_high
FROM public.image WHERE band IS NOT NULL ORDER BY band, t
"""

SKYREGION = f"""
CREATE VIEW trap.skyregion AS
SELECT _id AS id, dataset, centre_ra_deg AS centre_ra, centre_dec_deg AS centre_decl, radius_deg AS xtr_radius,
    {UNIT_VECTOR.format(ra="centre_ra_deg", dec="centre_dec_deg")}
FROM public.image WHERE centre_ra_deg IS NOT NULL
"""

IMAGE = """
CREATE VIEW trap.image AS
SELECT _id AS id, dataset, band, stokes, exposure_s AS tau_time, freq_hz AS freq_eff, bandwidth_hz AS freq_bw,
    t AT TIME ZONE 'UTC' AS taustart_ts, _id AS skyrgn, beam_major_deg / 2 AS rb_smaj, beam_minor_deg / 2 AS rb_smin,
    beam_pa_deg AS rb_pa, noise AS rms_qc, radius_deg AS xtr_radius, origin AS url
FROM public.image WHERE NOT rejected
"""

REJECTION = """
CREATE VIEW trap.rejection AS
SELECT _id AS id, _id AS image, reason ->> 'check' AS rejectreason, reason ->> 'text' AS comment
FROM public.image CROSS JOIN LATERAL jsonb_array_elements(reasons) AS reason WHERE rejected
"""

RUNNINGCATALOG = f"""
CREATE VIEW trap.runningcatalog AS
SELECT object._id AS id, first.xtrsrc, dataset, states.datapoints, states.forcedfits_count, ra_deg AS wm_ra,
    dec_deg AS wm_decl, pos_err_ew_deg AS wm_uncertainty_ew, pos_err_ns_deg AS wm_uncertainty_ns,
    pos_err_ew_deg * 3600 / greatest(cosd(dec_deg), 1e-9) AS avg_ra_err, pos_err_ns_deg * 3600 AS avg_decl_err,
    floor(dec_deg)::integer AS zone, {UNIT_VECTOR.format(ra="ra_deg", dec="dec_deg")}, retired AS inactive,
    kind = 1 AS mon_src
FROM public.object
LEFT JOIN LATERAL (
    SELECT sum(n)::integer AS datapoints, sum(n - n_blind)::integer AS forcedfits_count
    FROM public.object_state WHERE object_state.object = object._id
) AS states ON true
LEFT JOIN LATERAL (
    SELECT point._id AS xtrsrc FROM public.point WHERE point.object = object._id ORDER BY t, point._id LIMIT 1
) AS first ON true
"""

EXTRACTEDSOURCE = f"""
CREATE VIEW trap.extractedsource AS
SELECT _id AS id, image, CASE WHEN kind IN (1, 3) THEN object END AS ff_runcat,
    CASE WHEN kind = 2 THEN object END AS ff_monitor, floor(dec_deg)::integer AS zone, ra_deg AS ra, dec_deg AS decl,
    pos_err_ew_deg AS uncertainty_ew, pos_err_ns_deg AS uncertainty_ns,
    pos_err_ew_deg / greatest(cosd(dec_deg), 1e-9) AS ra_err, pos_err_ns_deg AS decl_err,
    {UNIT_VECTOR.format(ra="ra_deg", dec="dec_deg")}, ra_deg * cosd(dec_deg) AS racosdecl, snr AS det_sigma,
    flux_peak AS f_peak, flux_peak_err AS f_peak_err, flux_int AS f_int, flux_int_err AS f_int_err,
    CASE kind WHEN 0 THEN 0 WHEN 2 THEN 2 ELSE 1 END::smallint AS extract_type, flags
FROM public.point
"""

ASSOCXTRSOURCE = """
CREATE VIEW trap.assocxtrsource AS
SELECT _id AS id, object AS runcat, _id AS xtrsrc, link AS type, NULL::double precision AS distance_arcsec,
    deruiter::double precision AS r, NULL::double precision AS loglr, v AS v_int, eta AS eta_int, n AS f_datapoints
FROM public.point
"""

NEWSOURCE = """
CREATE VIEW trap.newsource AS
SELECT transient._id AS id, transient.object AS runcat, trigger._id AS trigger_xtrsrc,
    (reason ->> 'certain')::boolean::integer AS newsource_type,
    (reason ->> 'limits_image')::uuid AS previous_limits_image
FROM public.transient
LEFT JOIN public.point AS trigger
    ON trigger.object = transient.object AND trigger.image = transient.image AND trigger.t = transient.t
WHERE transient.kind = 'new_source' AND alert_type <> 'retraction'
"""

VARMETRIC = """
CREATE VIEW trap.varmetric AS
SELECT object_state._id AS id, object AS runcat, band, v AS v_int, eta AS eta_int, flux_max AS lightcurve_max,
    flux_mean AS lightcurve_avg, NULL::double precision AS lightcurve_median, NULL::double precision AS sigma_rms_max,
    NULL::double precision AS sigma_rms_min, (
        SELECT transient._id FROM public.transient
        WHERE transient.object = object_state.object AND transient.kind = 'new_source' ORDER BY t LIMIT 1
    ) AS newsource
FROM public.object_state
"""

RUNNINGCATALOG_FLUX = """
CREATE VIEW trap.runningcatalog_flux AS
SELECT _id AS id, object AS runcat, band, n AS f_datapoints, flux_mean AS avg_f_int,
    flux_mean_weighted AS avg_weighted_f_int, flux_min AS min_f_int, flux_max AS max_f_int
FROM public.object_state
"""

VIEWS = {
    "dataset": DATASET, "frequencyband": FREQUENCYBAND, "skyregion": SKYREGION, "image": IMAGE,
    "rejection": REJECTION, "runningcatalog": RUNNINGCATALOG, "extractedsource": EXTRACTEDSOURCE,
    "assocxtrsource": ASSOCXTRSOURCE, "newsource": NEWSOURCE, "varmetric": VARMETRIC,
    "runningcatalog_flux": RUNNINGCATALOG_FLUX,
}  # fmt: skip

COMMENTS = {
    "dataset": "one row per processing of the sky; description is its name",
    "frequencyband": "one row per band; its id is its name",
    "skyregion": "one row per image, which is its own region: id is the image",
    "image": "images that were measured; noise is in rms_qc, times are UTC without a zone, fluxes in the image unit",
    "rejection": "one row per reason for which an image was not measured",
    "runningcatalog": "one row per object; errors wm_uncertainty_* in degrees, avg_*_err in arcseconds",
    "extractedsource": "one row per point: a source that several objects share has one for each of them",
    "assocxtrsource": "one row per point; type is public.point.link: 0 one-to-one, 1 new, 2 forked, 3 shared, 4 forced",
    "newsource": "new sources that were not retracted; newsource_type 1 when certain, 0 when only possible",
    "varmetric": "newest statistics per object and band",
    "runningcatalog_flux": "newest fluxes per object and band",
}


def upgrade() -> None:
    op.execute("CREATE SCHEMA trap")
    op.execute("COMMENT ON SCHEMA trap IS 'views for queries that were written for TraP; read-only'")
    for name, statement in VIEWS.items():
        op.execute(statement)
        op.execute(f"COMMENT ON VIEW trap.{name} IS '{COMMENTS[name]}'")


def downgrade() -> None:
    op.execute("DROP SCHEMA trap CASCADE")
