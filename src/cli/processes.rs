//! `pollmark serve --processes`: several servers on one port, one account.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::serve::{json, refused, write_account};
use super::{Failure, signals};
use crate::child::{Knobs, Servers, Service};
use crate::mechanism::Mechanism;
use crate::server::{Config, Stats};
use crate::speech::Speech;
use crate::workload::Transport;

/// How often to look whether all have drained.
const LOOKS: Duration = Duration::from_millis(20);

/// What is told of the serving, beside the addresses.
#[derive(Clone, Copy)]
pub(super) struct Reporting {
    pub(super) every_second: bool,
    pub(super) as_json: bool,
}

/// Serves until interrupted, or until one of the processes is gone. The account of the others is kept then.
pub(super) fn serve(
    processes: usize,
    mechanism: &Mechanism,
    speech: Speech,
    config: &Config,
    reporting: Reporting,
) -> Result<(), Failure> {
    let service = Service {
        mechanism: mechanism.name(),
        ceiling: false,
        transport: Transport::Tcp,
        speech,
        cpu: None,
        crew: None,
        knobs: Knobs::NONE,
        count_instructions: false,
    };
    // Listened for before there are children to be left behind.
    let (sender, interrupted) = mpsc::channel();
    let again = sender.clone();
    signals::on_first_and_second(
        move |_| {
            let _ = sender.send(()); // nobody waits for it any more
        },
        move |_| {
            let _ = again.send(());
        },
    )
    .map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;

    let mut servers = Servers::share(processes, &service, config).map_err(|error| refused(mechanism, &error))?;
    let mut out = io::stdout();
    for address in servers.addresses() {
        writeln!(out, "{address}")?;
    }
    out.flush()?;

    let began = Instant::now();
    let mut trouble = None;
    while let Err(RecvTimeoutError::Timeout) = interrupted.recv_timeout(Duration::from_secs(1)) {
        if let Err(failure) = servers.check().and_then(|()| report(&mut servers, reporting)) {
            trouble = Some(failure);
            break;
        }
    }
    // Asked until all have ended, or a second signal comes: each of them knows how long it may take.
    while trouble.is_none() && !servers.drain() {
        if !matches!(interrupted.recv_timeout(LOOKS), Err(RecvTimeoutError::Timeout)) {
            break;
        }
    }
    let mut accounts = Vec::new();
    for stopped in servers.stop() {
        match stopped {
            Ok(stats) => accounts.push(stats),
            Err(failure) => trouble = trouble.or(Some(failure)),
        }
    }
    write_accounts(&mut out, &accounts, began.elapsed(), reporting)?;
    match trouble {
        None => Ok(()),
        Some(failure) => Err(Failure::failed(failure)),
    }
}

/// The last second, if it is to be told.
fn report(servers: &mut Servers, reporting: Reporting) -> Result<(), crate::child::Failure> {
    if reporting.every_second {
        let lap = servers.lap(false)?;
        // A reader that has gone is no reason to stop serving.
        let stats = lap.stats.unwrap_or_default();
        let _ = write_account(&mut io::stderr().lock(), &stats, Duration::from_secs(1));
    }
    Ok(())
}

/// All together, and each for itself.
fn write_accounts(out: &mut impl Write, accounts: &[Stats], during: Duration, reporting: Reporting) -> io::Result<()> {
    let all = accounts.iter().fold(Stats::default(), |all, one| all + *one);
    if reporting.as_json {
        let mut account = json(&all);
        account["processes"] = accounts.iter().map(json).collect();
        return writeln!(out, "{account}");
    }
    let mut err = io::stderr().lock();
    write_account(&mut err, &all, during)?;
    let each = accounts.iter().map(|stats| stats.accepted.to_string()).collect::<Vec<_>>();
    writeln!(err, "accepted by each of {} processes: {}", accounts.len(), each.join(", "))
}
