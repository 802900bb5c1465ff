//! What opens, what does not, and which keyrings are refused.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

use proptest::prelude::*;

const ONE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TWO: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const THREE: &str = "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=";

fn ring(active: u32, keys: &[(u32, &str)]) -> Keyring {
    let keys: String = keys.iter().map(|(id, key)| format!("{id} = \"{key}\"\n")).collect();
    Keyring::parse(&format!("active = {active}\nlookup = \"{THREE}\"\n[keys]\n{keys}")).unwrap()
}

fn place(row: &[u8]) -> Place<'_> {
    Place { table: "identity.users", column: "email", row }
}

#[test]
fn a_value_opens_with_its_key_for_as_long_as_the_ring_has_it() {
    let old = ring(1, &[(1, ONE)]);
    let sealed = old.seal(place(b"row"), b"ada@example.com").unwrap();
    let rotated = ring(2, &[(1, ONE), (2, TWO)]);
    assert_eq!(*rotated.open_sealed(place(b"row"), &sealed).unwrap(), b"ada@example.com");
    assert!(old.is_current(&sealed) && !rotated.is_current(&sealed));
    assert!(sealed.starts_with(&old.current_head()));
    let without = ring(2, &[(2, TWO)]);
    assert_eq!(without.open_sealed(place(b"row"), &sealed), Err(OpenError::KeyUnknown(1)));
}

#[test]
fn a_wrong_key_of_the_same_id_is_refused() {
    let sealed = ring(1, &[(1, ONE)]).seal(place(b"row"), b"x").unwrap();
    assert_eq!(ring(1, &[(1, TWO)]).open_sealed(place(b"row"), &sealed), Err(OpenError::Refused));
}

#[test]
fn places_that_read_alike_when_joined_are_different() {
    let ring = ring(1, &[(1, ONE)]);
    let sealed = ring.seal(Place { table: "ab", column: "c", row: b"d" }, b"x").unwrap();
    for (table, column, row) in [("a", "bc", &b"d"[..]), ("ab", "cd", b""), ("abc", "", b"d")] {
        let moved = ring.open_sealed(Place { table, column, row }, &sealed);
        assert_eq!(moved, Err(OpenError::Refused), "{table} {column}");
    }
}

#[test]
fn a_keyring_that_can_not_be_used_is_refused_with_the_keys_name() {
    let short = "AAECAwQ=";
    let zeros = STANDARD.encode([0; 32]);
    let cases = [
        (
            format!("active = 1\nlookup = \"{short}\"\n[keys]\n1 = \"{ONE}\"\n"),
            "`lookup` must be 32",
        ),
        (
            format!("active = 1\nlookup = \"{TWO}\"\n[keys]\n1 = \"{short}\"\n"),
            "`keys.1` must be 32",
        ),
        (
            format!("active = 1\nlookup = \"{TWO}\"\n[keys]\n1 = \"{zeros}\"\n"),
            "`keys.1` must be random",
        ),
        (format!("active = 1\nlookup = \"{TWO}\"\n[keys]\n1 = \"!\"\n"), "`keys.1`"),
        (
            format!("active = 1\nlookup = \"{TWO}\"\n[keys]\n01 = \"{ONE}\"\n"),
            "`keys.01` must be named",
        ),
        (
            format!("active = 1\nlookup = \"{TWO}\"\n[keys]\n0 = \"{ONE}\"\n"),
            "`keys.0` must be named",
        ),
        (
            format!("active = 1\nlookup = \"{TWO}\"\n[keys]\nx = \"{ONE}\"\n"),
            "`keys.x` must be named",
        ),
        (format!("active = 2\nlookup = \"{TWO}\"\n[keys]\n1 = \"{ONE}\"\n"), "`active` must be"),
        (
            format!("active = 1\nlookup = \"{ONE}\"\n[keys]\n1 = \"{ONE}\"\n"),
            "`keys.1` is there twice",
        ),
        (format!("active = 1\nlookup = \"{TWO}\"\n[keys]\n"), "`keys` must have"),
        (format!("active = 1\nlookup = \"{TWO}\"\n"), "is no keyring"),
        (
            format!("active = 1\nlookup = \"{TWO}\"\nother = 1\n[keys]\n1 = \"{ONE}\"\n"),
            "is no keyring",
        ),
    ];
    for (text, why) in cases {
        let error = Keyring::parse(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
        assert!(![ONE, TWO].iter().any(|key| error.contains(key)), "{error} shows a key");
    }
}

#[test]
fn a_keyring_is_made_once_for_its_owner_alone_and_is_the_same_ever_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keyring.toml");
    let first = Keyring::open_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let sealed = first.seal(place(b"row"), b"x").unwrap();
    let second = Keyring::open_or_create(&path).unwrap();
    assert_eq!(*second.open_sealed(place(b"row"), &sealed).unwrap(), b"x");
    assert_eq!(first.hash("email", b"a"), second.hash("email", b"a"));

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = Keyring::open_or_create(&path).unwrap_err().to_string();
    assert!(error.contains("mode 644"), "{error}");
    let missing = Keyring::open(&folder.path().join("missing")).unwrap_err().to_string();
    assert!(missing.contains("missing"), "{missing}");
}

#[test]
fn debug_shows_ids_and_no_key() {
    let shown = format!("{:?}", ring(2, &[(1, ONE), (2, TWO)]));
    assert_eq!(shown, "Keyring { keys: [1, 2], active: 2 }");
}

#[test]
fn a_hash_depends_on_purpose_value_and_key() {
    let one = ring(1, &[(1, ONE)]);
    assert_eq!(one.hash("email", b"a"), ring(2, &[(1, ONE), (2, TWO)]).hash("email", b"a"));
    assert_ne!(one.hash("email", b"a"), one.hash("emaila", b""));
    assert_ne!(one.hash("email", b"a"), one.hash("email", b"b"));
    let text = format!("active = 1\nlookup = \"{TWO}\"\n[keys]\n1 = \"{ONE}\"\n");
    assert_ne!(one.hash("email", b"a"), Keyring::parse(&text).unwrap().hash("email", b"a"));
}

proptest! {
    #[test]
    fn what_is_sealed_opens_to_itself_and_is_never_sealed_twice_alike(
        value in proptest::collection::vec(any::<u8>(), 0..200), row in any::<[u8; 16]>(),
    ) {
        let ring = ring(1, &[(1, ONE)]);
        let sealed = ring.seal(place(&row), &value).unwrap();
        prop_assert_eq!(sealed.len(), value.len() + OVERHEAD_BYTES);
        prop_assert_eq!(&*ring.open_sealed(place(&row), &sealed).unwrap(), &value);
        prop_assert_ne!(ring.seal(place(&row), &value).unwrap(), sealed);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused(
        value in proptest::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let ring = ring(1, &[(1, ONE), (2, TWO)]);
        let mut sealed = ring.seal(place(b"row"), &value).unwrap();
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(ring.open_sealed(place(b"row"), &sealed).is_err());
    }

    #[test]
    fn another_table_column_or_row_is_refused(
        table in "[a-z.]{0,8}", column in "[a-z]{0,8}", row in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let ring = ring(1, &[(1, ONE)]);
        let sealed = ring.seal(place(b"row"), b"value").unwrap();
        let other = Place { table: &table, column: &column, row: &row };
        prop_assume!(other != place(b"row"));
        prop_assert!(ring.open_sealed(other, &sealed).is_err());
    }

    #[test]
    fn any_bytes_open_or_are_refused_and_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        prop_assert!(ring(1, &[(1, ONE)]).open_sealed(place(b"row"), &bytes).is_err());
    }

    #[test]
    fn a_cut_envelope_is_refused(cut in 0_usize..33) {
        let ring = ring(1, &[(1, ONE)]);
        let sealed = ring.seal(place(b"row"), b"").unwrap();
        prop_assert!(ring.open_sealed(place(b"row"), &sealed[..cut]).is_err());
    }
}
