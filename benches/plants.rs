//! Does the method find what is there, and nothing where nothing is? Slowdowns of known size are planted, seed after seed.
//!
//!     cargo bench --bench plants                                       a look: one seed of the workload quick
//!     cargo bench --bench plants -- --seeds 10 --workload default      what there is to show, in 15 minutes
//!     cargo bench --bench plants -- --seeds 10 --workload default --rounds 10 --alone
//!                                                                      as many rounds as `full` has, of the plants alone
//!     cargo bench --bench plants -- --seeds 10 --out DIRECTORY         with every record, and plants.json over all
//!     cargo bench --bench plants -- --seeds 10 --judge DIRECTORY       of such a directory anew, without measuring
//!
//! Two pollers are registered beside the built-in ones, as anybody's would be, and the comparison is the one that the command
//! makes: `epoll` (elsewhere `kqueue`, or `poll`) that burns a hundredth, and one that burns a tenth, of the CPU time the
//! server has used. After every 64th wait it spins for that part of what the process used since: to ask for the time costs
//! too, and in 64 waits it is lost.
//!
//! Three things are counted. In how many cells the A/A control would have been told apart from its twin. In how many cells a
//! plant lost to the best. And whether it lost over all cells together: in each round the ratios to what it was planted in,
//! of all cells, as their geometric mean; the median of the rounds has to lie beyond the margin with its whole interval. The
//! margin is 5 %, or what the control differed by from its twin, taken together in the same way.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pollmark::backends::{
    Capabilities, Events, Interest, Ledger, OwnedSource, Poller, Registry, Source, Token, Trigger,
};
use pollmark::child;
use pollmark::measure::record::{CONTROL, Load, Trial};
use pollmark::measure::stats::{Estimate, SMALLEST_EFFECT};
use pollmark::measure::{Comparison, Progress, Record, Workload};
use pollmark::report::{self, Outcome, Standing, Summary};
use pollmark::usage;
use serde_json::{Value, json};

/// What is planted, as a part of the CPU time used.
const SHARES: [f64; 2] = [0.01, 0.1];

/// Waits from one look at the clock to the next.
const WAITS: u32 = 64;

/// A poller that burns a part of what the process uses.
struct Planted {
    inner: Box<dyn Poller>,
    share: f64,
    waits: u32,
    /// CPU time of the process when it had last been burnt.
    since: Duration,
}

impl Planted {
    fn burn(&mut self) {
        let Some(now) = usage::cpu_time() else { return };
        let until = now + (now - self.since.min(now)).mul_f64(self.share);
        while usage::cpu_time().is_some_and(|now| now < until) {}
        self.since = until;
    }
}

impl Poller for Planted {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn add(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.inner.add(source, token, interest, trigger)
    }

    fn modify(&mut self, source: Source<'_>, token: Token, interest: Interest, trigger: Trigger) -> io::Result<()> {
        self.inner.modify(source, token, interest, trigger)
    }

    fn remove(&mut self, source: Source<'_>) -> io::Result<()> {
        self.inner.remove(source)
    }

    fn close(&mut self, source: OwnedSource) -> io::Result<()> {
        self.inner.close(source)
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let waited = self.inner.wait(events, timeout);
        self.waits += 1;
        if self.waits == WAITS {
            self.waits = 0;
            self.burn();
        }
        waited
    }

    fn ledger(&self) -> Ledger {
        self.inner.ledger()
    }
}

/// What the slowdowns are planted in: the best there is here of those that every host of a kind has.
fn planted_in() -> &'static str {
    let here = Registry::builtin();
    let is_here = |name: &&str| here.get(name).is_ok_and(|entry| entry.probe().is_ok());
    ["epoll", "kqueue"].into_iter().find(is_here).unwrap_or("poll")
}

fn label(base: &str, share: f64) -> String {
    format!("{base}-plus-{:.0}", share * 100.0)
}

fn registry(base: &'static str) -> Registry {
    SHARES.into_iter().fold(Registry::builtin(), |registry, share| {
        registry.with(label(base, share), move || {
            let inner = Registry::builtin().get(base).map_err(io::Error::other)?.open()?;
            let since = usage::cpu_time().unwrap_or_default();
            Ok(Box::new(Planted { inner, share, waits: 0, since }) as Box<dyn Poller>)
        })
    })
}

/// What the command line asks for.
struct Asked {
    seeds: u64,
    workload: String,
    /// How many rounds, if not as many as the workload has time for.
    rounds: Option<usize>,
    /// Of all rows only what was planted, what it was planted in, and the control.
    alone: bool,
    out: Option<PathBuf>,
    /// Where the records are, if they are there already.
    judge: Option<PathBuf>,
    /// Only whether all of it works: for `cargo bench -- --test`.
    test: bool,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        seeds: 1,
        workload: "quick".to_owned(),
        rounds: None,
        alone: false,
        out: None,
        judge: None,
        test: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--seeds" => {
                let seeds = value()?;
                asked.seeds = seeds.parse().map_err(|_| format!("--seeds {seeds}: not a number"))?;
            }
            "--workload" => asked.workload = value()?,
            "--rounds" => {
                let rounds = value()?;
                asked.rounds = Some(rounds.parse().map_err(|_| format!("--rounds {rounds}: not a number"))?);
            }
            "--alone" => asked.alone = true,
            "--out" => asked.out = Some(value()?.into()),
            "--judge" => asked.judge = Some(value()?.into()),
            "--test" => asked.test = true,
            // From cargo.
            "--bench" => {}
            // A filter of cargo bench is for all benches, and this one has no parts.
            filter if !filter.starts_with('-') && !"plants".contains(filter) => std::process::exit(0),
            other if other.starts_with('-') => {
                return Err(format!("{other}: known are --seeds, --workload, --rounds, --alone, --out and --judge"));
            }
            _ => {}
        }
    }
    Ok(asked)
}

fn main() -> Result<(), Box<dyn Error>> {
    let base = planted_in();
    let registry = registry(base);
    child::enter(&registry);
    let asked = asked()?;
    usage::raise_descriptor_limit();
    let workload = Workload::find_or_read(&asked.workload)?;
    let mut seeds = Vec::new();
    for seed in 1..=asked.seeds {
        if let Some(directory) = &asked.judge {
            let record = report::read(&directory.join(format!("seed-{seed}")))?;
            let found = judge(&record, base);
            print(seed, &found);
            seeds.push(found);
            write(Some(directory), base, &asked, &record, &seeds)?;
            continue;
        }
        let mut comparison = Comparison::new(&registry).workload(&workload)?.seed(seed);
        if asked.alone || asked.test {
            comparison = comparison.subjects(&[base.to_owned(), label(base, SHARES[0]), label(base, SHARES[1])])?;
        }
        if let Some(rounds) = asked.rounds {
            comparison = comparison.rounds(rounds);
        }
        if asked.test {
            comparison = comparison.idle(vec![0]).active(vec![10]).rounds(2);
            comparison = comparison.interval(Duration::from_millis(5), Duration::from_millis(20));
        }
        let record = comparison.run(&mut Quiet)?;
        let found = judge(&record, base);
        print(seed, &found);
        if let Some(out) = &asked.out {
            report::write(&record, &out.join(format!("seed-{seed}")))?;
        }
        seeds.push(found);
        write(asked.out.as_deref(), base, &asked, &record, &seeds)?;
    }
    total(&seeds, base);
    Ok(())
}

/// Of a comparison only its warnings.
struct Quiet;

impl Progress for Quiet {
    fn note(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

/// What one comparison found.
fn judge(record: &Record, base: &str) -> Value {
    let summary = Summary::of(record);
    let control = summary.subjects.iter().find(|one| one.control).map(|one| one.name.clone());
    let twin = control.as_ref().and_then(|control| control.strip_suffix(CONTROL)).unwrap_or(base).to_owned();
    let itself = control.and_then(|control| together(&summary, &control, &twin));
    let margin = itself.map_or(0.0, |one| one.value.ln().abs().exp() - 1.0).max(SMALLEST_EFFECT);
    let plants = SHARES.map(|share| {
        let name = label(base, share);
        let standings = standings(&summary, &name);
        let all = together(&summary, &name, base);
        let instructions = instructions(&summary, &name, base);
        json!({
            "name": name,
            "cells": standings.len(),
            "cells_lost": standings.iter().filter(|one| matches!(one, Standing::Rank(_))).count(),
            "ratio": all.map(|one| one.value),
            "interval": all.and_then(|one| one.interval),
            "loses": all.is_some_and(|one| one.is_beyond(margin)),
            "instructions_ratio": instructions.map(|one| one.value),
            "loses_on_instructions": instructions.map(|one| one.is_beyond(SMALLEST_EFFECT)),
        })
    });
    json!({
        "seed": record.seed,
        "started": record.started,
        "load_average": record.host.load_average,
        "rounds": record.settings.rounds_done,
        "void_trials": record.trials.iter().filter(|trial| trial.void.is_some()).count(),
        "control": {
            "cells": summary.noise.cells, "told_apart": summary.noise.told_apart, "spread": summary.noise.spread,
            "all_cells_ratio": itself.map(|one| one.value), "interval": itself.and_then(|one| one.interval),
        },
        "margin_of_all_cells": margin,
        "smallest_effects": summary.cells.iter().filter_map(|cell| cell.figures()?.smallest_effect).collect::<Vec<_>>(),
        "plants": plants,
    })
}

/// Where a row stands in each table in which it has figures.
fn standings(summary: &Summary<'_>, name: &str) -> Vec<Standing> {
    let of_row = summary.cells.iter().filter(|cell| summary.subjects[cell.subject].name == name);
    of_row.filter_map(|cell| Some(cell.figures()?.standing)).collect()
}

/// The CPU time for each request of one row to that of another, of all cells that both have: in each round, then over the rounds.
fn together(summary: &Summary<'_>, name: &str, to: &str) -> Option<Estimate> {
    let theirs = costs(summary, to, false, Trial::request_ns);
    let mut cells = BTreeMap::<(u32, Load), Vec<(u32, f64)>>::new();
    for ((idle, load, round), mine) in costs(summary, name, false, Trial::request_ns) {
        if let Some(theirs) = theirs.get(&(idle, load, round)) {
            cells.entry((idle, load)).or_default().push((round, (mine / theirs).ln()));
        }
    }
    // What was given up after a round to stay within the time is in none, so that all rounds are of the same cells.
    let most = cells.values().map(Vec::len).max()?;
    cells.retain(|_, rounds| rounds.len() == most);
    let mut rounds = BTreeMap::<u32, Vec<f64>>::new();
    cells.values().flatten().for_each(|(round, log)| rounds.entry(*round).or_default().push(*log));
    let mean = |logs: &Vec<f64>| (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    let means = rounds.values().map(mean).collect::<Vec<_>>();
    Estimate::of(&means, summary.record.seed)
}

/// The same of instructions, which are counted once: over the cells.
fn instructions(summary: &Summary<'_>, name: &str, to: &str) -> Option<Estimate> {
    let count =
        |trial: &Trial| Some((trial.instructions_user? + trial.instructions_kernel?) as f64 / trial.requests as f64);
    let theirs = costs(summary, to, true, count);
    let mine = costs(summary, name, true, count);
    let ratios = mine.iter().filter_map(|(place, mine)| Some(mine / theirs.get(place)?)).collect::<Vec<_>>();
    Estimate::of(&ratios, summary.record.seed)
}

/// A figure of each trial of a row that counts, by idle population, load and round.
fn costs(
    summary: &Summary<'_>,
    name: &str,
    counted: bool,
    figure: impl Fn(&Trial) -> Option<f64>,
) -> BTreeMap<(u32, Load, u32), f64> {
    let counts = |idle: u32, load: Load| {
        let cells = summary.table(idle, load).iter();
        let mut mine = cells.filter(|cell| summary.subjects[cell.subject].name == name);
        mine.any(|cell| matches!(cell.outcome, Outcome::Measured(_)))
    };
    let trials = summary.record.trials.iter().filter(|trial| trial.subject == name && trial.counted == counted);
    let placed = trials.filter(|trial| trial.requests > 0).filter_map(|trial| {
        let load = summary.record.settings.load_of(trial);
        counts(trial.idle, load).then_some(((trial.idle, load, trial.round), figure(trial)?))
    });
    placed.collect()
}

fn print(seed: u64, found: &Value) {
    let control = &found["control"];
    print!(
        "seed {seed}: {} rounds, A/A told apart in {} of {} cells",
        found["rounds"], control["told_apart"], control["cells"]
    );
    for plant in found["plants"].as_array().into_iter().flatten() {
        let word = if plant["loses"] == true { "loses" } else { "does not lose" };
        let ratio = plant["ratio"].as_f64().unwrap_or(f64::NAN);
        print!(
            "; {} {word} ({ratio:.3}×; in {} of {} cells)",
            text(&plant["name"]),
            plant["cells_lost"],
            plant["cells"]
        );
    }
    println!();
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Over all seeds.
fn total(seeds: &[Value], base: &str) {
    let sum = |key: &str| seeds.iter().filter_map(|seed| seed["control"][key].as_u64()).sum::<u64>();
    let (cells, apart) = (sum("cells"), sum("told_apart"));
    let share = 100.0 * (cells - apart) as f64 / cells.max(1) as f64;
    println!("A/A: indistinguishable in {} of {cells} cells, {share:.1} %", cells - apart);
    for (at, share) in SHARES.into_iter().enumerate() {
        let lost = |key: &str| seeds.iter().filter(|seed| seed["plants"][at][key] == true).count();
        let counted = seeds.iter().filter(|seed| seed["plants"][at]["loses_on_instructions"].is_boolean()).count();
        let instructions = match counted {
            0 => "instructions are not counted on this host".to_owned(),
            _ => format!("on instructions in {} of {counted}", lost("loses_on_instructions")),
        };
        let name = label(base, share);
        println!("{name}: loses on CPU time in {} of {} seeds; {instructions}", lost("loses"), seeds.len());
    }
}

/// After each seed anew, so that what ends all of it leaves what there is.
fn write(out: Option<&Path>, base: &str, asked: &Asked, record: &Record, seeds: &[Value]) -> io::Result<()> {
    let Some(out) = out else { return Ok(()) };
    fs::create_dir_all(out)?;
    let workload = record.workload.as_ref().map_or(&asked.workload, |about| &about.name);
    let all = json!({"planted_in": base, "shares": SHARES, "workload": workload, "host": record.host, "seeds": seeds});
    fs::write(out.join("plants.json"), serde_json::to_string_pretty(&all)? + "\n")
}
