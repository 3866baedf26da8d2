//! A plot as PNG: its pixels, drawn from its SVG, and the data of that in it.
//!
//! The feature `png` has what draws: resvg, a renderer of SVG in Rust alone, which draws letters, too, with a font of the
//! system. Without it a [`Painter`] cannot be opened, and says what to do.

#[cfg(not(feature = "png"))]
#[path = "png/absent.rs"]
mod brush;
#[cfg(feature = "png")]
#[path = "png/resvg.rs"]
mod brush;

use std::io;

/// The keyword of the iTXt chunk that a plot's data is in, as CSV.
pub const DATA: &str = "Data";

/// Draws plots as PNG.
///
/// ```no_run
/// use pollmark::report::{self, PLOTS, png::Painter};
///
/// # fn main() -> std::io::Result<()> {
/// let painter = Painter::open()?;
/// let svg = std::fs::read_to_string(format!("results/{PLOTS}/memory-of-an-idle-connection.svg"))?;
/// std::fs::write("memory.png", painter.draw(&svg)?)?;
/// // Or of every plot of a record, beside its SVG:
/// report::write_with_png(&report::read("results".as_ref())?, "again".as_ref(), &painter)
/// # }
/// ```
pub struct Painter(brush::Brush);

impl Painter {
    /// Looks for a font, once for all plots: of those where this system has them, a plain one without serifs if there is
    /// one, else any that has the letters.
    ///
    /// # Errors
    /// `Unsupported` where pollmark was built without the feature `png`; `NotFound` if there is no font, as a plot
    /// without words would say nothing of what it shows. Both say what to do.
    pub fn open() -> io::Result<Painter> {
        brush::Brush::open().map(Painter)
    }

    /// The PNG of one of our [plots](super::plots::pictures): two pixels for each unit of the SVG, on its light background.
    ///
    /// What the SVG has as `<metadata>` is in the iTXt chunk [`DATA`], its name in the chunk `Title`, and this program in
    /// `Software`. There is no date in it: the same SVG gives the same bytes wherever font and program are the same.
    ///
    /// # Errors
    /// `InvalidInput` if that is no SVG, has no data in it, or is too large to be drawn.
    pub fn draw(&self, svg: &str) -> io::Result<Vec<u8>> {
        self.0.draw(svg)
    }
}
