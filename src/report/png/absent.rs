//! What there is of it without the feature `png`: the reason.

use std::convert::Infallible;
use std::io::{self, Error, ErrorKind};

pub(super) struct Brush(Infallible);

impl Brush {
    pub(super) fn open() -> io::Result<Brush> {
        Err(Error::new(ErrorKind::Unsupported, REMEDY))
    }

    pub(super) fn draw(&self, _svg: &str) -> io::Result<Vec<u8>> {
        match self.0 {}
    }
}

const REMEDY: &str = "cannot draw PNG: this pollmark was built without the feature \"png\"; `cargo install --locked pollmark \
    --features png` (in its sources: `cargo build --release --features png`) gives one that can, and of a plot that is there \
    as SVG `rsvg-convert -z 2 -b white NAME.svg -o NAME.png` makes a PNG, without the data";

#[test]
fn without_the_feature_there_is_no_painter_but_a_remedy() {
    let error = super::Painter::open().err().expect("nothing draws");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("--features png"), "{error}");
}
