//! What the README says is what the registry, the code and the records say.

use std::fs;
use std::path::{Path, PathBuf};

use pollmark::backends::Registry;
use pollmark::mechanism::matrix;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("README.md").replace("\r\n", "\n")
}

/// The README with the text between the markers of `block` replaced.
fn with_block(readme: &str, block: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {block}: begin -->\n"), format!("<!-- {block}: end -->"));
    let (before, rest) = readme.split_once(&begin).unwrap_or_else(|| panic!("README.md has lost {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README.md has lost {end}"));
    format!("{before}{begin}{text}{end}{after}")
}

fn is_current(block: &str, text: &str) {
    let readme = readme();
    let current = with_block(&readme, block, text);
    if std::env::var_os("POLLMARK_BLESS").is_some() {
        fs::write(root().join("README.md"), current).expect("writable");
    } else {
        assert_eq!(readme, current, "run it with POLLMARK_BLESS=1 to bring README.md up to date");
    }
}

// One test, because blessing writes one file.
#[test]
fn the_generated_blocks_are_current() {
    is_current("matrix", &matrix(&Registry::builtin()));
    #[cfg(feature = "report")]
    is_current("compare", &latest_comparison());
}

/// A plot and the overview of the newest committed record, with where they come from.
#[cfg(feature = "report")]
fn latest_comparison() -> String {
    use pollmark::report::{PLOTS, Summary, json, markdown, plots};

    let records = root().join("benches/records");
    let mut directories = fs::read_dir(&records)
        .expect("benches/records")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("results.json").is_file())
        .collect::<Vec<_>>();
    directories.sort();
    let newest = directories.last().expect("a record");
    let file = fs::File::open(newest.join("results.json")).expect("readable");
    let record = json::read(std::io::BufReader::new(file)).expect("a record of this schema");
    let link = newest.strip_prefix(root()).expect("inside").display().to_string().replace('\\', "/");
    let summary = Summary::of(&record);
    let (picture, drawn) = plots::pictures(&summary).into_iter().next().expect("a plot");
    let committed = newest.join(PLOTS).join(&picture);
    let committed = fs::read_to_string(&committed).unwrap_or_else(|error| panic!("{}: {error}", committed.display()));
    // However it is drawn by now, its numbers are those of the record.
    let data = |picture: &str| {
        picture.split("</metadata>").next().and_then(|head| Some(head.split_once("<metadata>")?.1.to_owned()))
    };
    assert!(data(&drawn).is_some_and(|data| data.contains("epoll,")), "a plot has its data in it");
    assert_eq!(
        data(&committed.replace("\r\n", "\n")),
        data(&drawn),
        "{picture}: `pollmark report {link} --out {link}` draws it anew"
    );
    let alt = "server CPU per request against idle connections, by mechanism, on logarithmic axes";
    format!(
        "Server CPU time per request as printed on {} ([every sample, the host, the whole report]({link})), \
         and as a multiple of the best of its column. =: the repeats do not separate it from the best. A/A: one mechanism \
         measured twice, to show the noise. –: not on that system.\n\n\
         ![{alt}]({link}/{PLOTS}/{picture})\n\n{}",
        &record.started[..10],
        markdown::overview(&summary)
    )
}

#[test]
fn the_readmes_code_is_the_compiled_example_of_the_crate() {
    let library = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
    let readme = readme();
    let blocks = readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().expect("a block"));
    let mut lines = 0;
    for line in blocks.flat_map(str::lines).filter(|line| !line.is_empty()) {
        assert!(library.contains(&format!("//! {line}")), "not in the example of src/lib.rs: {line}");
        lines += 1;
    }
    assert!(lines >= 5, "README.md shows no code any more");
}
