//! The contestants of a comparison: those that are here, and why the others are not.

use super::Comparison;
use crate::measure::contestant::twice;
use crate::measure::impossible::Impossible;
use crate::measure::missing::absent;
use crate::measure::plan::Subject;
use crate::measure::record::{self, Missing};

impl Comparison<'_> {
    /// A row for each that tells its version and starts, and what the record keeps of it; the others are put down as
    /// missing.
    pub(super) fn present(
        &self,
        missing: &mut Vec<Missing>,
    ) -> Result<(Vec<Subject>, Vec<record::Contestant>), Impossible> {
        if let Some(label) = twice(&self.contestants) {
            return Err(Impossible::Invalid(format!(
                "two contestants are called {label}: nobody could tell them apart"
            )));
        }
        let (mut present, mut about) = (Vec::new(), Vec::new());
        for contestant in &self.contestants {
            let subject = Subject::of_contestant(contestant.clone());
            let unsupported = match &self.workload {
                one if one.exercise.is_some() => Some("unsupported: it is a server, and no poller without one"),
                one if one.grid.processes > 1 => Some("unsupported: it is one process, and here several share a port"),
                _ => None,
            };
            if let Some(why) = unsupported {
                missing.push(absent(&subject, None, None, why.into()));
                continue;
            }
            let checked = contestant.check();
            // A terminal's Ctrl-C is heard by what tells the version, too: then it is not what fails.
            if self.stopped() {
                return Err(Impossible::Interrupted);
            }
            match checked {
                Ok(version) => {
                    about.push(contestant.about(&version));
                    present.push(subject);
                }
                Err(why) => missing.push(absent(&subject, None, None, why.to_string())),
            }
        }
        Ok((present, about))
    }
}
