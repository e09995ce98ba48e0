-- The functions of the q3c extension that Trapline uses, for servers where the extension cannot be had: the same names,
-- argument types and results. Idea: Koposov & Bartunov 2006, ASPC 351, 735.
--
-- The sphere is projected from its centre onto a cube: face 0 looks north, faces 1 to 4 to right ascension 0, 90, 180
-- and 270, face 5 south. On a face u and v run from -1 to 1; there are 2^30 cells along each. The number of a cell is
-- the face in bits 60 to 62, u in the even and v in the odd bits below: a square of 2^k x 2^k aligned cells is one
-- interval of 4^k numbers, which is what a b-tree can search.
--
-- All angles are degrees. Nothing here depends on the search path: PostgreSQL 18 hides `public` while it builds an
-- index. So bodies in PL/pgSQL call only what the server brings, the others are SQL-standard bodies.

CREATE OR REPLACE FUNCTION q3c_ang2ipix(double precision, double precision) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10 AS $function$
DECLARE
    -- radians() of the smallest numbers is an underflow, which the server calls an error.
    lon double precision := CASE WHEN abs($1) < 1e-200 THEN 0 ELSE $1 END;
    lat double precision := CASE WHEN abs($2) < 1e-200 THEN 0 ELSE greatest(-90, least(90, $2)) END;
    face bigint;
    turned double precision;
    polar double precision;
    u double precision;
    v double precision;
    x bigint;
    y bigint;
BEGIN
    IF abs(lon) >= 'Infinity' OR abs($2) >= 'Infinity' THEN  -- NaN sorts above infinity
        RETURN NULL;
    END IF;
    IF $1 < 0 THEN
        lon := lon - 360 * trunc(lon / 360) + 360;
    ELSIF lon > 360 THEN
        lon := lon - 360 * trunc(lon / 360);
    END IF;
    face := 1 + floor((lon + 45) / 90)::bigint % 4;
    turned := radians(lon - 90 * (face - 1));
    u := tan(turned);
    v := tan(radians(lat)) / cos(turned);
    IF abs(v) > 1 THEN
        face := CASE WHEN v > 0 THEN 0 ELSE 5 END;
        polar := 1 / tan(radians(lat));
        u := sin(radians(lon)) * abs(polar);
        v := -cos(radians(lon)) * polar;
    END IF;
    x := greatest(0, least(1073741823, floor((u + 1) / 2 * 1073741824)::bigint));
    y := greatest(0, least(1073741823, floor((v + 1) / 2 * 1073741824)::bigint));
    -- Spread the 30 bits of each over every second bit, halving the distance five times.
    x := (x | (x << 16)) & 281470681808895;
    x := (x | (x << 8)) & 71777214294589695;
    x := (x | (x << 4)) & 1085102592571150095;
    x := (x | (x << 2)) & 3689348814741910323;
    x := (x | (x << 1)) & 6148914691236517205;
    y := (y | (y << 16)) & 281470681808895;
    y := (y | (y << 8)) & 71777214294589695;
    y := (y | (y << 4)) & 1085102592571150095;
    y := (y | (y << 2)) & 3689348814741910323;
    y := (y | (y << 1)) & 6148914691236517205;
    RETURN (face << 60) | x | (y << 1);
END
$function$;

CREATE OR REPLACE FUNCTION q3c_ang2ipix(ra real, decl real) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN q3c_ang2ipix(ra::double precision, decl::double precision);

-- Square of the sine of half the distance (haversine): exact at small distances, and no root per row. In place of
-- cos(dec1) cos(dec2) stands the difference of two squares, which rounds as the extension does. What is no position is
-- NaN away; the smallest differences are 0, because the server calls an underflow an error.
CREATE OR REPLACE FUNCTION q3c_sindist(double precision, double precision, double precision, double precision)
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs($1) < 1e300 AND abs($2) < 1e300 AND abs($3) < 1e300 AND abs($4) < 1e300 THEN
    sin(radians(CASE WHEN abs($1 - $3) < 1e-100 THEN 0 ELSE $1 - $3 END / 2)) ^ 2 * (
        cos(radians(CASE WHEN abs($2 + $4) < 1e-100 THEN 0 ELSE $2 + $4 END / 2)) ^ 2
        - sin(radians(CASE WHEN abs($2 - $4) < 1e-100 THEN 0 ELSE $2 - $4 END / 2)) ^ 2
    ) + sin(radians(CASE WHEN abs($2 - $4) < 1e-100 THEN 0 ELSE $2 - $4 END / 2)) ^ 2
    WHEN $1 IS NULL OR $2 IS NULL OR $3 IS NULL OR $4 IS NULL THEN NULL
    ELSE 'NaN' END;

CREATE OR REPLACE FUNCTION q3c_dist(
    ra1 double precision, dec1 double precision, ra2 double precision, dec2 double precision
) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN degrees(2 * asin(sqrt(
    CASE WHEN q3c_sindist(ra1, dec1, ra2, dec2) BETWEEN 1 AND 2 THEN 1 ELSE q3c_sindist(ra1, dec1, ra2, dec2) END
)));

-- One end of one of 27 intervals of cell numbers that together hold a cone: numbers from end 0 up to and including
-- end 1. An interval that is not needed is empty (1 to 0), which the index answers without a look.
--
-- On a face the lines of equal u are planes through the centre, so the cone's reach in u is an angle about the v axis:
-- atan2(u, n) +- asin(sin(radius) / hypot(u, n)), likewise in v. The box of these is covered by at most
-- side x side aligned squares of cells, with 5, 3 or 2 squares along a side for 1, 2 to 3 or more faces.
CREATE OR REPLACE FUNCTION q3c_cone_end(
    ra double precision, decl double precision, radius double precision, part integer, which integer
) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 10 AS $function$
DECLARE
    -- A milliarcsecond more than asked for: rounding must not lose a row at the rim.
    reach double precision := abs(radius) + 3e-7;
    cx double precision;
    cy double precision;
    cz double precision;
    normal double precision[];
    along_u double precision[];
    along_v double precision[];
    faces bigint[] := '{}';
    boxes bigint[] := '{}';  -- first and last cell in x, then in y, of each face
    span double precision;
    mid_u double precision;
    mid_v double precision;
    half_u double precision;
    half_v double precision;
    side integer;
    pick integer;
    box integer;
    level integer;
    x bigint;
    y bigint;
BEGIN
    IF abs(ra) >= 'Infinity' OR abs(decl) >= 'Infinity' OR reach >= 'Infinity' THEN  -- NaN sorts above infinity
        RETURN 1 - which;
    END IF;
    cx := cosd(decl) * cosd(ra);
    cy := cosd(decl) * sind(ra);
    cz := sind(decl);
    normal := ARRAY[cz, cx, cy, -cx, -cy, -cz];
    along_u := ARRAY[cy, cy, -cx, -cy, cx, cy];
    along_v := ARRAY[-cx, cz, cz, cz, cz, cx];
    FOR face IN 1..6 LOOP
        -- No point of a face is more than 54.74 degrees from its middle.
        CONTINUE WHEN reach < 90 AND normal[face] < cosd(reach + 54.74);
        -- A cone that holds the axis of the turn reaches round it: everything, about any middle.
        mid_u := 0;
        mid_v := 0;
        half_u := 180;
        half_v := 180;
        span := sqrt(along_u[face] ^ 2 + normal[face] ^ 2);
        IF reach < 90 AND sind(reach) < span THEN
            mid_u := atan2d(along_u[face], normal[face]);
            half_u := asind(sind(reach) / span);
        END IF;
        span := sqrt(along_v[face] ^ 2 + normal[face] ^ 2);
        IF reach < 90 AND sind(reach) < span THEN
            mid_v := atan2d(along_v[face], normal[face]);
            half_v := asind(sind(reach) / span);
        END IF;
        CONTINUE WHEN abs(mid_u) - half_u > 45 OR abs(mid_v) - half_v > 45;
        faces := faces || (face - 1)::bigint;
        boxes := boxes || ARRAY[
            least(1073741823, floor((tand(greatest(-45, mid_u - half_u)) + 1) * 536870912))::bigint,
            least(1073741823, floor((tand(least(45, mid_u + half_u)) + 1) * 536870912))::bigint,
            least(1073741823, floor((tand(greatest(-45, mid_v - half_v)) + 1) * 536870912))::bigint,
            least(1073741823, floor((tand(least(45, mid_v + half_v)) + 1) * 536870912))::bigint
        ];
    END LOOP;
    side := CASE cardinality(faces) WHEN 1 THEN 5 WHEN 2 THEN 3 WHEN 3 THEN 3 ELSE 2 END;
    pick := part / (side * side);
    IF pick >= cardinality(faces) THEN
        RETURN 1 - which;
    END IF;
    box := 4 * pick;
    level := 0;
    WHILE (boxes[box + 2] >> level) - (boxes[box + 1] >> level) >= side
        OR (boxes[box + 4] >> level) - (boxes[box + 3] >> level) >= side LOOP
        level := level + 1;
    END LOOP;
    x := (boxes[box + 1] >> level) + part % side;
    y := (boxes[box + 3] >> level) + part / side % side;
    IF x > boxes[box + 2] >> level OR y > boxes[box + 4] >> level THEN
        RETURN 1 - which;
    END IF;
    x := x << level;
    y := y << level;
    -- Spread the 30 bits of each over every second bit, halving the distance five times.
    x := (x | (x << 16)) & 281470681808895;
    x := (x | (x << 8)) & 71777214294589695;
    x := (x | (x << 4)) & 1085102592571150095;
    x := (x | (x << 2)) & 3689348814741910323;
    x := (x | (x << 1)) & 6148914691236517205;
    y := (y | (y << 16)) & 281470681808895;
    y := (y | (y << 8)) & 71777214294589695;
    y := (y | (y << 4)) & 1085102592571150095;
    y := (y | (y << 2)) & 3689348814741910323;
    y := (y | (y << 1)) & 6148914691236517205;
    RETURN ((faces[pick + 1] << 60) | x | (y << 1)) + which * ((1::bigint << (2 * level)) - 1);
END
$function$;

-- True within `radius` of a position. It is written so that the planner puts its text in place of the call and finds an
-- index on q3c_ang2ipix(ra, dec): any of 27 intervals, then the distance.
CREATE OR REPLACE FUNCTION q3c_radial_query(
    double precision, double precision, double precision, double precision, double precision
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 0, 0) AND q3c_cone_end($3, $4, $5, 0, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 1, 0) AND q3c_cone_end($3, $4, $5, 1, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 2, 0) AND q3c_cone_end($3, $4, $5, 2, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 3, 0) AND q3c_cone_end($3, $4, $5, 3, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 4, 0) AND q3c_cone_end($3, $4, $5, 4, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 5, 0) AND q3c_cone_end($3, $4, $5, 5, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 6, 0) AND q3c_cone_end($3, $4, $5, 6, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 7, 0) AND q3c_cone_end($3, $4, $5, 7, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 8, 0) AND q3c_cone_end($3, $4, $5, 8, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 9, 0) AND q3c_cone_end($3, $4, $5, 9, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 10, 0) AND q3c_cone_end($3, $4, $5, 10, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 11, 0) AND q3c_cone_end($3, $4, $5, 11, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 12, 0) AND q3c_cone_end($3, $4, $5, 12, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 13, 0) AND q3c_cone_end($3, $4, $5, 13, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 14, 0) AND q3c_cone_end($3, $4, $5, 14, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 15, 0) AND q3c_cone_end($3, $4, $5, 15, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 16, 0) AND q3c_cone_end($3, $4, $5, 16, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 17, 0) AND q3c_cone_end($3, $4, $5, 17, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 18, 0) AND q3c_cone_end($3, $4, $5, 18, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 19, 0) AND q3c_cone_end($3, $4, $5, 19, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 20, 0) AND q3c_cone_end($3, $4, $5, 20, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 21, 0) AND q3c_cone_end($3, $4, $5, 21, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 22, 0) AND q3c_cone_end($3, $4, $5, 22, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 23, 0) AND q3c_cone_end($3, $4, $5, 23, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 24, 0) AND q3c_cone_end($3, $4, $5, 24, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 25, 0) AND q3c_cone_end($3, $4, $5, 25, 1) OR
    q3c_ang2ipix($1, $2) BETWEEN q3c_cone_end($3, $4, $5, 26, 0) AND q3c_cone_end($3, $4, $5, 26, 1)
) AND q3c_sindist($1, $2, $3, $4)
    < CASE WHEN abs($5) BETWEEN 1e-100 AND 1e300 THEN sin(radians($5) / 2) ^ 2 ELSE 0 END;

CREATE OR REPLACE FUNCTION q3c_radial_query(real, real, double precision, double precision, double precision)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN q3c_radial_query($1::double precision, $2::double precision, $3, $4, $5);

-- For joins: the second position is that of the table whose index is used.
CREATE OR REPLACE FUNCTION q3c_join(
    leftra double precision, leftdec double precision, rightra double precision, rightdec double precision,
    radius double precision
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN q3c_radial_query(rightra, rightdec, leftra, leftdec, radius);
