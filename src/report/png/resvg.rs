//! How it is drawn: resvg over a font of the system, and the data beside the pixels.

use std::collections::BTreeSet;
use std::io::{self, Error, ErrorKind};
use std::sync::Arc;

use fontdb::{Database, FaceInfo, Family, Query, Source, Weight};
use png::text_metadata::ITXtChunk;
use png::{BitDepth, ColorType, Encoder, EncodingError, Filter, Info, PixelDimensions, SrgbRenderingIntent, Unit};
use resvg::render;
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::roxmltree::Document;
use resvg::usvg::{Group, Node, Options, Text, Tree};

use super::DATA;

/// Pixels for each unit of the SVG, as on a screen of twice the usual density.
const SCALE: f32 = 2.0;
/// Of an SVG, 96 units are an inch.
const UNITS_PER_METRE: f32 = 96.0 / 0.0254;

pub(super) struct Brush {
    options: Options<'static>,
}

impl Brush {
    pub(super) fn open() -> io::Result<Brush> {
        let mut fonts = Database::new();
        fonts.load_system_fonts();
        Brush::with(&fonts)
    }

    /// With the first of these fonts that has the letters.
    fn with(fonts: &Database) -> io::Result<Brush> {
        let all = fonts.faces().flat_map(|face| &face.families).map(|(name, _)| name.as_str());
        // In an order of their own, as that of files in a directory is anybody's.
        let all = all.collect::<BTreeSet<_>>();
        let plain = PLAIN.iter().copied().filter(|name| all.contains(name));
        let others = all.iter().copied().filter(|name| !PLAIN.contains(name));
        let brushes = plain.chain(others).map(|family| (family, Brush::of(fonts.clone(), family)));
        let mut able = brushes.filter(|(family, brush)| brush.has_letters(family)).map(|(_, brush)| brush);
        able.next().ok_or_else(|| Error::new(ErrorKind::NotFound, NO_FONT))
    }

    fn of(mut fonts: Database, family: &str) -> Brush {
        // Whatever family a plot asks for, none of which needs to be there.
        fonts.set_sans_serif_family(family);
        fonts.set_serif_family(family);
        for weight in [Weight::NORMAL, Weight::SEMIBOLD] {
            let wanted = Query { families: &[Family::SansSerif], weight, ..Query::default() };
            keep(&mut fonts, &wanted);
        }
        Brush { options: Options { fontdb: Arc::new(fonts), ..Options::default() } }
    }

    /// Whether this family, and none that stands in for it, has every letter that is in all our plots.
    fn has_letters(&self, family: &str) -> bool {
        let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 9 9\"><text>{LETTERS}</text></svg>");
        let Ok(tree) = Tree::from_str(&svg, &self.options) else { return false };
        let texts = texts(tree.root());
        let glyphs = texts.iter().flat_map(|text| text.layouted()).flat_map(|span| &span.positioned_glyphs);
        let is_ours = |face: &FaceInfo| face.families.iter().any(|(name, _)| name == family);
        let glyphs = glyphs.filter(|glyph| glyph.id.0 != 0 && tree.fontdb().face(glyph.font).is_some_and(is_ours));
        glyphs.map(|glyph| glyph.text.as_str()).collect::<String>() == LETTERS
    }

    pub(super) fn draw(&self, svg: &str) -> io::Result<Vec<u8>> {
        let document = Document::parse(svg).map_err(wrong)?;
        let root = document.root_element();
        let metadata = root.children().find(|child| child.tag_name().name() == "metadata");
        let data = metadata.and_then(|metadata| metadata.text()).ok_or_else(|| wrong("there is no data in it"))?;
        let title = root.attribute("aria-label").unwrap_or_default();
        let pixels = self.pixels(&Tree::from_xmltree(&document, &self.options).map_err(wrong)?)?;
        encode(&pixels, [("Title", title), ("Software", SOFTWARE), (DATA, data)]).map_err(Error::other)
    }

    fn pixels(&self, tree: &Tree) -> io::Result<Pixmap> {
        let [width, height] = [tree.size().width(), tree.size().height()].map(|units| (units * SCALE).ceil() as u32);
        let too_large = || wrong(format!("{width} × {height} pixels are more than can be drawn"));
        let mut pixels = Pixmap::new(width, height).ok_or_else(too_large)?;
        // Below the background that the picture has itself: nothing shines through.
        pixels.fill(Color::WHITE);
        render(tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
        Ok(pixels)
    }
}

/// Families without serifs as systems have them; the narrower first, as plots are laid out for these.
const PLAIN: [&str; 12] = [
    "Noto Sans",
    "Liberation Sans",
    "Arial",
    "Helvetica",
    "Helvetica Neue",
    "Segoe UI",
    "Roboto",
    "Ubuntu",
    "Cantarell",
    "FreeSans",
    "DejaVu Sans",
    "Verdana",
];

const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%(),-./:=µ×–";

const NO_FONT: &str = "cannot draw PNG: this system has no font to write with, or none where fonts are looked for; install one, \
    such as fonts-dejavu-core of Debian, or put one with Latin letters (.ttf, .otf) into ~/.local/share/fonts";

const SOFTWARE: &str = concat!("pollmark ", env!("CARGO_PKG_VERSION"));

/// Has the file of this font read once, and not at every letter.
fn keep(fonts: &mut Database, wanted: &Query<'_>) {
    let Some(id) = fonts.query(wanted) else { return };
    let Some(bytes) = fonts.with_face_data(id, |bytes, _| bytes.to_vec()) else { return };
    let Some(face) = fonts.face(id).cloned() else { return };
    fonts.remove_face(id);
    fonts.push_face_info(FaceInfo { source: Source::Binary(Arc::new(bytes)), ..face });
}

/// Every text within, as it was laid out.
fn texts(group: &Group) -> Vec<&Text> {
    let mut found = Vec::new();
    for node in group.children() {
        match node {
            Node::Group(group) => found.extend(texts(group)),
            Node::Text(text) => found.push(text),
            _ => {}
        }
    }
    found
}

fn encode(pixels: &Pixmap, texts: [(&str, &str); 3]) -> Result<Vec<u8>, EncodingError> {
    let mut info = Info::with_size(pixels.width(), pixels.height());
    (info.color_type, info.bit_depth) = (ColorType::Rgb, BitDepth::Eight);
    info.srgb = Some(SrgbRenderingIntent::Perceptual);
    // So that on paper it is as large as the SVG.
    let per_metre = (UNITS_PER_METRE * SCALE).round() as u32;
    info.pixel_dims = Some(PixelDimensions { xppu: per_metre, yppu: per_metre, unit: Unit::Meter });
    for (keyword, text) in texts {
        let mut chunk = ITXtChunk::new(keyword, text);
        chunk.compressed = keyword == DATA;
        info.utf8_text.push(chunk);
    }
    let mut out = Vec::new();
    let mut encoder = Encoder::with_info(&mut out, info)?;
    // Of areas of one colour, a fifth smaller than with any filter.
    encoder.set_filter(Filter::NoFilter);
    let mut writer = encoder.write_header()?;
    let colours = pixels.pixels().iter().map(|pixel| pixel.demultiply());
    let bytes = colours.flat_map(|colour| [colour.red(), colour.green(), colour.blue()]).collect::<Vec<_>>();
    writer.write_image_data(&bytes)?;
    writer.finish()?;
    Ok(out)
}

fn wrong(why: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidInput, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Painter;
    use super::*;
    use crate::report::plot::{Bar, Bars, Group as Plots, Look, Plot};
    use crate::report::{Summary, plots, sample};
    use png::{Decoder, Transformations};
    use std::io::Cursor;

    /// The fonts of this system, of which a test needs one: it says so if there is none, and is not skipped.
    fn painter() -> Painter {
        Painter::open().expect("a font, such as fonts-dejavu-core of Debian")
    }

    struct Read {
        size: (u32, u32),
        pixels: Vec<u8>,
        texts: Vec<(String, String)>,
    }

    fn read(bytes: &[u8]) -> Read {
        let mut decoder = Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(Transformations::IDENTITY);
        let mut reader = decoder.read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let frame = reader.next_frame(&mut pixels).expect("whole");
        assert_eq!((frame.color_type, frame.bit_depth), (ColorType::Rgb, BitDepth::Eight), "nothing shines through");
        reader.finish().expect("an end");
        let texts = reader.info().utf8_text.iter();
        let texts = texts.map(|chunk| (chunk.keyword.clone(), chunk.get_text().expect("as it was written"))).collect();
        Read { size: (frame.width, frame.height), pixels, texts }
    }

    impl Read {
        fn text(&self, keyword: &str) -> &str {
            let mut found = self.texts.iter().filter(|(name, _)| name == keyword);
            &found.next().unwrap_or_else(|| panic!("{keyword} is in it: {:?}", self.texts)).1
        }

        /// Whether anything within this box of the SVG is as dark as letters are, and no line of a grid.
        fn has_ink(&self, within: resvg::usvg::Rect) -> bool {
            let most = |edge: f32, size: u32| ((edge * SCALE).max(0.0) as u32).min(size) as usize;
            let (width, height) = self.size;
            let rows = most(within.top(), height)..most(within.bottom() + 1.0, height);
            let columns = most(within.left(), width)..most(within.right() + 1.0, width);
            let at = |row: usize, column: usize| (row * width as usize + column) * 3;
            let mut bytes = rows.flat_map(|row| self.pixels[at(row, columns.start)..at(row, columns.end)].chunks(3));
            bytes.any(|colour| colour.iter().all(|part| *part < 160))
        }
    }

    #[test]
    fn every_plot_of_every_record_is_drawn_with_all_its_words_and_its_data() {
        let painter = painter();
        for (kind, record) in sample::all() {
            for (name, svg) in plots::pictures(&Summary::of(&record)) {
                let png = read(&painter.draw(&svg).unwrap_or_else(|error| panic!("{kind}, {name}: {error}")));
                let document = Document::parse(&svg).expect("ours");
                let shape = document.root_element().attribute("viewBox").expect("ours");
                let shape = shape.split(' ').map(|number| number.parse::<f32>().expect("a number")).collect::<Vec<_>>();
                assert_eq!(png.size, ((shape[2] * 2.0) as u32, (shape[3] * 2.0) as u32), "{kind}, {name}");
                let metadata = svg.split("<metadata>").nth(1).and_then(|rest| rest.split("</metadata>").next());
                let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
                let data = entities.iter().fold(metadata.expect("ours").to_owned(), |data, (entity, character)| {
                    data.replace(entity, character)
                });
                assert_eq!(png.text(DATA), data, "{kind}, {name}");
                let tree = Tree::from_xmltree(&document, &painter.0.options).expect("ours");
                let drawn = texts(tree.root());
                let written = document.descendants().filter(|node| node.tag_name().name() == "text");
                let written = written.filter(|node| node.text().is_some_and(|text| !text.trim().is_empty()));
                assert_eq!(drawn.len(), written.count(), "{kind}, {name}: a text is missing");
                for text in drawn {
                    let words = text.chunks().iter().map(|chunk| chunk.text()).collect::<String>();
                    let glyphs = text.layouted().iter().flat_map(|span| &span.positioned_glyphs);
                    let place = text.abs_bounding_box();
                    assert!(glyphs.count() > 0 && png.has_ink(place), "{kind}, {name}: {words} is not there");
                    let is_within = place.left() >= 0.0 && place.right() <= shape[2] && place.bottom() <= shape[3];
                    assert!(is_within || kind == "absurd", "{kind}, {name}: {words} is cut off: {place:?}");
                }
            }
        }
    }

    #[test]
    fn the_same_plot_gives_the_same_bytes() {
        let record = sample::partial();
        let (name, svg) = plots::pictures(&Summary::of(&record)).into_iter().next().expect("a plot");
        assert!(painter().draw(&svg).expect("drawn") == painter().draw(&svg).expect("drawn"), "{name}");
    }

    #[test]
    fn what_a_plot_is_called_is_in_it_however_it_is_called() {
        let title = format!("{} \u{ffff}\u{202e}é中", sample::HOSTILE);
        let bar = Bar { row: 0, name: title.clone(), look: Look::of("epoll", false, 0), parts: Ok(vec![1.0]) };
        let bars = Bars { title, x_label: "calls", parts: vec!["wait"], bars: vec![bar] };
        let drawn = Plots { title: String::new(), note: String::new(), plots: vec![Plot::Bars(bars)] }.draw();
        let png = read(&painter().draw(&drawn.plots[0].1).expect("drawn"));
        let called = "<script>alert('x')</script>|\"a\",b &amp; `c` [31m \u{fffd}\u{202e}é中";
        assert_eq!(png.text("Title"), called);
        assert_eq!(png.text(DATA), format!("mechanism,wait,note\n\"{}\",1,\n", called.replace('"', "\"\"")));
        assert_eq!(png.text("Software"), SOFTWARE);
        assert_eq!(png.texts.len(), 3, "and nothing else, such as a date");
    }

    #[test]
    fn without_a_font_there_is_no_painter_but_a_remedy() {
        let error = Brush::with(&Database::new()).err().expect("no font, no words");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("install one, such as fonts-dejavu-core"), "{error}");
    }

    #[test]
    fn a_font_that_has_no_letters_is_none() {
        let broken = |family: &str| FaceInfo {
            id: fontdb::ID::dummy(),
            source: Source::Binary(Arc::new(b"no font".to_vec())),
            index: 0,
            families: vec![(family.to_owned(), fontdb::Language::English_UnitedStates)],
            post_script_name: family.to_owned(),
            style: fontdb::Style::Normal,
            weight: Weight::NORMAL,
            stretch: fontdb::Stretch::Normal,
            monospaced: false,
        };
        let mut fonts = Database::new();
        fonts.push_face_info(broken("Broken Sans"));
        assert_eq!(Brush::with(&fonts).err().expect("no letters").kind(), ErrorKind::NotFound);
        fonts.load_system_fonts();
        assert!(!Brush::of(fonts.clone(), "Broken Sans").has_letters("Broken Sans"), "others do not stand in for it");
        assert!(Brush::with(&fonts).is_ok(), "one of the others is taken");
    }

    #[test]
    fn what_is_no_plot_is_refused() {
        let svg = |size: &str, metadata: &str| {
            format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size}\">{metadata}</svg>")
        };
        let data = "<metadata>a,b\n</metadata>";
        let painter = painter();
        assert!(painter.draw(&svg("9 9", data)).is_ok());
        let cases = ["hello".to_owned(), svg("9 9", ""), svg("1e9 1e9", data), svg("9 9", "<")];
        for case in cases {
            assert_eq!(painter.draw(&case).expect_err(&case).kind(), ErrorKind::InvalidInput, "{case}");
        }
    }
}
