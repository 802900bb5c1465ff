//! Country and city of an address, from a MaxMind database in memory. A look-up that fails is a click without a place.

use std::net::IpAddr;
use std::path::Path;

use maxminddb::PathElement;
use maxminddb::Reader;
use service::ConfigError;

/// The layouts of records that are known, each with the paths of the country's code and of the city's name.
const LAYOUTS: [Layout; 2] = [
    // MaxMind's own, and what follows it.
    Layout {
        country: &[PathElement::Key("country"), PathElement::Key("iso_code")],
        city: &[PathElement::Key("city"), PathElement::Key("names"), PathElement::Key("en")],
    },
    // ip-location-db's.
    Layout { country: &[PathElement::Key("country_code")], city: &[PathElement::Key("city")] },
];
/// Records that are looked at to tell the layout.
const PROBES_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy)]
struct Layout {
    country: &'static [PathElement<'static>],
    city: &'static [PathElement<'static>],
}

/// A database of places.
#[derive(Debug)]
pub(crate) struct Places {
    reader: Reader<Vec<u8>>,
    layout: Layout,
    has_cities: bool,
}

/// Where an address is, as far as it is known: empty text otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// ISO 3166-1 alpha-2, upper case.
    pub(crate) country: &'a str,
    /// The English name.
    pub(crate) city: &'a str,
}

impl Places {
    /// Reads the file and looks whether it holds countries at all.
    pub(crate) fn open(path: &Path) -> Result<Self, ConfigError> {
        let refuse = |why: String| {
            ConfigError::new("edge.places_file", format!("{}: {why}", path.display()))
        };
        let reader = Reader::open_readfile(path)
            .map_err(|error| refuse(format!("is no readable MaxMind database: {error}")))?;
        let layout = layout(&reader).ok_or_else(|| {
            refuse("none of its first records has a country that could be read".to_owned())
        })?;
        let has_cities = reader.metadata().database_type.to_ascii_lowercase().contains("city");
        Ok(Self { reader, layout, has_cities })
    }

    /// The place of an address.
    pub(crate) fn find(&self, address: IpAddr) -> Place<'_> {
        let Ok(found) = self.reader.lookup(address) else { return Place::default() };
        let text = |path| found.decode_path::<&str>(path).ok().flatten().unwrap_or_default();
        let country = text(self.layout.country);
        let is_code = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
        Place {
            country: if is_code { country } else { "" },
            city: if self.has_cities { text(self.layout.city) } else { "" },
        }
    }
}

fn layout(reader: &Reader<Vec<u8>>) -> Option<Layout> {
    let networks = reader.networks(maxminddb::WithinOptions::default()).ok()?;
    networks.take(PROBES_MAX).flatten().find_map(|found| {
        LAYOUTS.into_iter().find(|layout| {
            found.decode_path::<&str>(layout.country).is_ok_and(|country| country.is_some())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_corrupt_file_is_refused_with_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let corrupt = folder.path().join("corrupt.mmdb");
        std::fs::write(&corrupt, b"no database").expect("written");
        for path in [folder.path().join("missing.mmdb"), corrupt] {
            let error = Places::open(&path).expect_err("it can't be read");
            assert_eq!(error.key, "edge.places_file");
            assert!(error.why.contains("mmdb"), "{error}");
        }
    }

    #[test]
    fn addresses_of_both_kinds_have_their_country_and_private_ones_have_none() {
        let path = stack::locate::country_database()
            .expect("the database of countries is installed by scripts/setup.sh test");
        let places = Places::open(&path).expect("it is a database");
        let country = |address: &str| places.find(address.parse().expect("an address")).country;
        assert_eq!(country("8.8.8.8"), "US");
        assert_eq!(country("2001:4860:4860::8888"), "US");
        assert_eq!(country("193.99.144.80"), "DE");
        for nowhere in ["127.0.0.1", "10.0.0.1", "::1"] {
            assert_eq!(country(nowhere), "", "{nowhere}");
        }
    }

    #[test]
    fn a_database_of_cities_gives_country_and_city_in_english() {
        let path = stack::locate::tool("geo-test/cities.mmdb")
            .expect("MaxMind's test data are installed by scripts/setup.sh test");
        let places = Places::open(&path).expect("it is a database");
        for (address, country, city) in [
            ("81.2.69.160", "GB", "London"),
            ("89.160.20.112", "SE", "Linköping"),
            ("216.160.83.56", "US", "Milton"),
            ("2001:218::1", "JP", ""),
            ("127.0.0.1", "", ""),
        ] {
            let place = places.find(address.parse().expect("an address"));
            assert_eq!(place, Place { country, city }, "{address}");
        }
    }
}
