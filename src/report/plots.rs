//! Plots as files: each picture by itself, for a paper, a README or a slide, with the data in it.
//!
//! SVG always, which needs no font here; PNG of it where a [`Painter`] is given, for what takes no SVG: slides, chats, forums.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::charts;
use super::format::slug;
use super::plot::Drawn;
use super::png::Painter;
use super::summary::Summary;
use crate::measure::file::{cannot, replace};

/// The directory with the plots of a record: an SVG each, its data in its `<metadata>`, as CSV; and if asked for, a PNG with
/// the same data in it.
pub const PLOTS: &str = "plots";

/// As a picture by itself has no page to take its colours from. What is no browser knows `background-color` at the most.
const STYLE: &str = "<style>svg { color: #1b1f24; background-color: #fdfdfc } \
    @media (prefers-color-scheme: dark) { svg { color: #e4e7eb; background-color: #15181c } }</style>\n";

/// Every plot of the record by its file name, as it is drawn in the page.
pub fn pictures(summary: &Summary<'_>) -> Vec<(String, String)> {
    alone(&charts::groups(summary))
}

fn alone(groups: &[Drawn]) -> Vec<(String, String)> {
    let mut names = BTreeSet::new();
    let mut pictures = Vec::new();
    for group in groups {
        for (plot, picture) in &group.plots {
            let title = slug(plot.title());
            let again = |again: usize| if again > 1 { format!("{title}-{again}.svg") } else { format!("{title}.svg") };
            let name = (1..).map(again).find(|name| names.insert(name.clone())).expect("without end");
            let (head, rest) = picture.split_once('\n').expect("a picture has more than one line");
            pictures.push((name, format!("{head}\n{STYLE}{rest}")));
        }
    }
    pictures
}

/// Writes them into the directory [`PLOTS`] of `directory`, and says which: paths within it.
///
/// # Errors
/// What the file system said, with the file it was about.
pub(super) fn write(groups: &[Drawn], directory: &Path, painter: Option<&Painter>) -> io::Result<Vec<String>> {
    let (pictures, plots) = (alone(groups), directory.join(PLOTS));
    if !pictures.is_empty() {
        fs::create_dir_all(&plots).map_err(cannot("make the directory", &plots))?;
    }
    let mut made = Vec::new();
    for (name, picture) in pictures {
        let path = plots.join(&name);
        replace(&path, |out| out.write_all(picture.as_bytes()))?;
        if let Some(painter) = painter {
            let path = path.with_extension("png");
            let drawn = painter.draw(&picture).map_err(cannot("draw", &path))?;
            replace(&path, |out| out.write_all(&drawn))?;
            made.push(format!("{PLOTS}/{}", name.replace(".svg", ".png")));
        }
        made.push(format!("{PLOTS}/{name}"));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn every_picture_stands_alone_by_a_name_of_its_own_with_its_data() {
        for (kind, record) in sample::all() {
            let pictures = pictures(&Summary::of(&record));
            let names = pictures.iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
            assert_eq!(names.len(), pictures.len(), "{kind}");
            for (name, picture) in &pictures {
                assert!(
                    picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && picture.ends_with("</svg>\n")
                );
                assert_eq!(picture.matches("<style>").count(), 1, "{name}");
                let data = picture.split("<metadata>").nth(1).and_then(|rest| rest.split("</metadata>").next());
                assert!(data.is_some_and(|data| data.starts_with("mechanism,") && data.lines().count() > 1), "{name}");
                assert!(!picture.contains("<script") && !picture.contains("href"), "{name}");
            }
        }
    }
}
