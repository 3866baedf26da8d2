//! What the README says of the mechanisms is what the registry says.

use std::fs;
use std::path::Path;

use pollmark::backends::Registry;
use pollmark::mechanism::matrix;

/// The README with the text between the markers of `block` replaced.
fn with_block(readme: &str, block: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {block}: begin -->\n"), format!("<!-- {block}: end -->"));
    let (before, rest) = readme.split_once(&begin).unwrap_or_else(|| panic!("README.md has lost {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README.md has lost {end}"));
    format!("{before}{begin}{text}{end}{after}")
}

#[test]
fn the_matrix_of_mechanisms_and_systems_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).expect("README.md").replace("\r\n", "\n");
    let current = with_block(&readme, "matrix", &matrix(&Registry::builtin()));
    if std::env::var_os("POLLMARK_BLESS").is_some() {
        fs::write(&path, current).expect("writable");
    } else {
        assert_eq!(readme, current, "run it with POLLMARK_BLESS=1 to bring README.md up to date");
    }
}
