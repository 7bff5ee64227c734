//! `regions`: where clients are, and where on Earth that is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::Name;

/// A region of clients; which prefixes are in it says the file `node.regions_file`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Name, unique among regions, as in the file.
    #[schemars(with = "Name")]
    pub name: String,
    /// Where it is, for services with `steering_policy: proximity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// A place on Earth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Degrees north of the equator, -90 … 90.
    #[schemars(range(min = -90, max = 90))]
    pub latitude: f64,
    /// Degrees east of Greenwich, -180 … 180.
    #[schemars(range(min = -180, max = 180))]
    pub longitude: f64,
}

impl Location {
    /// The great-circle distance to another place in kilometres, by the haversine formula.
    pub fn distance_km(self, other: Self) -> f64 {
        const EARTH_RADIUS_KM: f64 = 6371.0;
        let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
        let parallel = self.latitude.to_radians().cos() * other.latitude.to_radians().cos();
        let of_sphere =
            half(self.latitude, other.latitude) + parallel * half(self.longitude, other.longitude);
        2.0 * EARTH_RADIUS_KM * of_sphere.sqrt().min(1.0).asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_globe_also_over_poles_and_the_date_line() {
        let at = |latitude, longitude| Location { latitude, longitude };
        let (berlin, new_york, tokyo) = (at(52.52, 13.405), at(40.7128, -74.006), at(35.6762, 139.6503));
        for (from, to, km) in [
            (berlin, new_york, 6385.0),
            (berlin, tokyo, 8918.0),
            (tokyo, new_york, 10_849.0),
            (at(0.0, 179.5), at(0.0, -179.5), 111.2),
            (at(90.0, 0.0), at(90.0, 120.0), 0.0),
            (at(90.0, 0.0), at(-90.0, 7.0), 20_015.0),
        ] {
            assert!((from.distance_km(to) - km).abs() < 5.0, "{from:?} {to:?} {}", from.distance_km(to));
            assert!((from.distance_km(to) - to.distance_km(from)).abs() < 1e-6);
        }
    }
}
