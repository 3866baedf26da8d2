//! `pollmark history`: the same cells over records of one machine, and whether counts have stayed within a bound.

use std::io::{self, Write};
use std::path::PathBuf;

use super::Failure;
use super::printing::{Format, Printing, Rows};
use crate::measure::Record;
use crate::report::history::{Count, History};
use crate::report::read;

/// Shows what each cell cost in each of several records, in the order they were made.
///
/// Records of several machines, or workloads, may be given: each has a table of its own, and none is held against
/// another. A step is called a change only if `pollmark diff` would call it one. System calls and instructions stand
/// beside CPU time; these may be gated, times may not. The exit code is 1 if a gate is not met.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  pollmark history results/*                        records of a year, the oldest first
  pollmark history before after --gate calls=1      exit 1 if after makes 1 % more calls a request
  pollmark history before after --gate calls=1 --gate instructions=2 --markdown
                                                    as .github/workflows/counts.yml asks of each")]
pub(super) struct Arguments {
    /// The results.json of each, or the directory it is in.
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// Fail if the newest record of a machine has more of this per request, by so many percent, than the one before:
    /// calls, or instructions (in user mode). Counts repeat best where one connection is active.
    #[arg(long, value_name = "COUNT=PERCENT", value_parser = gate)]
    gate: Vec<(Count, f64)>,
    #[command(flatten)]
    printing: Printing<Rows>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let paths = &arguments.records;
    let records = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
    is_a_history(&records, paths)?;
    let history = History::of(&records);
    let mut out = io::stdout().lock();
    match arguments.printing.format {
        Format::Table => out.write_all(history.render(super::style()).as_bytes())?,
        Format::Markdown => out.write_all(history.to_markdown().as_bytes())?,
        Format::Json => {
            writeln!(out, "{}", serde_json::to_string_pretty(&history.to_json()).expect("plain fields"))?;
        }
        Format::Csv => history.write_csv(&mut out)?,
    }
    out.flush()?;
    judge(&history, &arguments.gate)
}

/// Refuses what nothing can be held against.
fn is_a_history(records: &[Record], paths: &[PathBuf]) -> Result<(), Failure> {
    if let [path] = paths {
        let path = path.display();
        return Err(Failure::usage(format!(
            "{path} is one record, and a history takes two or more: name an earlier one; `pollmark report {path}` shows one"
        )));
    }
    super::each_once(records, paths)?;
    if History::of(records).courses.is_empty() {
        return Err(Failure::usage(
            "no two of these records are of one machine and one workload, so none can be held against another; of two \
             machines `pollmark diff` tells what both say",
        ));
    }
    Ok(())
}

/// What the gates say goes to stderr, so that stdout is what was asked for.
fn judge(history: &History<'_>, gates: &[(Count, f64)]) -> Result<(), Failure> {
    let (mut over, mut unknown) = (0, 0);
    for (count, percent) in gates {
        let judged = history.gate(*count, *percent);
        let name = count.name();
        // Nowhere is left to complain to if stderr is gone.
        let mut err = io::stderr().lock();
        for line in &judged.over {
            let _ = writeln!(err, "gate {name}: {line}");
        }
        if judged.cells == 0 && judged.over.is_empty() {
            let _ = writeln!(
                err,
                "gate {name}: NOT JUDGED: no cell of these records has them; their host did not count them"
            );
            unknown += 1;
        } else if judged.over.is_empty() {
            let _ = writeln!(err, "gate {name}: met in each of {} cells", judged.cells);
        }
        over += judged.over.len();
    }
    match (over, unknown) {
        (0, 0) => Ok(()),
        (0, all) if all == gates.len() => Err(Failure::failed("no gate could be judged")),
        (0, _) => Ok(()),
        (cells, _) => Err(Failure::failed(format!("{cells} counts are above their gates"))),
    }
}

fn gate(text: &str) -> Result<(Count, f64), String> {
    let (name, percent) = text.split_once('=').ok_or("COUNT=PERCENT, as in calls=1")?;
    let count = Count::ALL.into_iter().find(|count| count.name() == name).ok_or_else(|| match name {
        "cpu" | "time" | "p99" | "throughput" => {
            format!("{name} is no gate: times differ on a machine that others use; gate on calls, or instructions")
        }
        _ => "calls, or instructions".to_owned(),
    })?;
    match percent.parse() {
        Ok(percent) if (0.0..=1_000.0).contains(&percent) => Ok((count, percent)),
        Ok(_) => Err("between 0 and 1000 percent".to_owned()),
        Err(error) => Err(format!("{percent}: {error}: so many percent")),
    }
}
