//! A thread for each connection: what each takes of the process and of the kernel, and on which limit of this host it ends.

use std::io::{self, Write};
use std::net::TcpStream;

use super::experiment::{Experiment, PATIENCE};
use super::serving::{answered, ask, serve};
use super::streams::thread_number;
use super::{Knob, Topic};
use crate::mechanism::Mechanism;
use crate::server::Limits;
use crate::usage;

pub(super) const THREAD_PER_CONNECTION: Topic = Topic {
    name: "thread-per-connection",
    question: "What does a thread for each connection cost?",
    prediction: "A thread of the kernel for each client that is connected, idle ones too, with a stack of its own in \
                 the process's address space, some memory that it touches, and a sleep and a wake-up for each \
                 request; a loop has none of these. It goes well until one of the host's limits is met.",
    knobs: &[
        Knob { name: "clients", default: 50, range: (1, 1_000), meaning: "how many clients are connected, and idle" },
        Knob { name: "loop", default: 0, range: (0, 1), meaning: "1: a loop instead, and no thread is added" },
    ],
    read_on: &[
        "pthread_create(3)",
        "pthread_attr_setstacksize(3)",
        "proc(5): /proc/pid/task",
        "`pollmark compare --backends threads,epoll`",
    ],
    run: |experiment| {
        if !cfg!(linux_like) {
            return Err(crate::observe::not_visible("the threads of a process"));
        }
        let clients = experiment.size("clients");
        let mechanism = if experiment.setting("loop") == 1 {
            Mechanism::choose(experiment.registry)?.name().to_owned()
        } else {
            "threads".to_owned()
        };
        let text = serve(experiment, &mechanism, Limits::default(), |experiment, address| {
            let (mut warm, _) = experiment.connect(address)?;
            ask(experiment, &mut warm, PATIENCE)?;
            let before = Process::now()?;
            let mut connected = Vec::new();
            for _ in 0..clients {
                let mut client = TcpStream::connect_timeout(&address, PATIENCE)?;
                client.write_all(b"x")?;
                if !answered(&mut client, PATIENCE)? {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "a client was not answered"));
                }
                connected.push(client);
            }
            let after = Process::now()?;
            experiment.note(format!("{clients} clients connect, are answered once, and stay"));
            let threads = after.threads.saturating_sub(before.threads);
            experiment.figure("threads of this process, before", before.threads, "/proc/self/task");
            experiment.figure("and after", after.threads, "/proc/self/task");
            experiment.claim("threads more", clients, threads);
            let each = |after: u64, before: u64| after.saturating_sub(before) / clients as u64;
            let space = each(after.space, before.space);
            let memory = each(after.memory, before.memory);
            let kernel = each(after.kernel_stacks, before.kernel_stacks);
            let mappings = each(after.mappings, before.mappings);
            let more = |what: &str| format!("{what} more, for each client");
            experiment.figure(more("address space"), format!("{space} B"), "/proc/self/status");
            experiment.figure(more("mappings of it"), mappings, "/proc/self/maps");
            experiment.figure(more("memory of its own"), format!("{memory} B"), "/proc/self/smaps_rollup");
            experiment.figure(more("stacks in the kernel, of the whole host,"), format!("{kernel} B"), "/proc/meminfo");

            let slept = sleeps(experiment, 0)?;
            for client in &mut connected {
                client.write_all(b"x")?;
            }
            for client in &mut connected {
                answered(client, PATIENCE)?;
            }
            experiment.note("each of them asks once, and is answered");
            // A thread that blocks has nothing else to do then.
            let slept = sleeps(experiment, slept + threads as u64)?.saturating_sub(slept);
            experiment.figure("times a thread of the server went to sleep meanwhile", slept, "/proc/self/task");
            let asked = clients as u64;
            experiment.claim_that("sleeps for so many requests", format!("{asked} or more"), slept, slept >= asked);

            let (end, what) = limit_of_threads(experiment, memory + kernel, mappings);
            Ok(format!(
                "{clients} idle clients brought {threads} threads more, and each client took {space} bytes of address \
                 space, which are cheap, and {memory} bytes of memory that the process really has, beside {kernel} of \
                 the kernel's for another stack. When each asked once, threads of the server went to sleep {slept} \
                 times, where a loop that is told of several at once sleeps once for all of them. On this host that \
                 ends at {end} clients, by {what}, whether they say anything or not; `pollmark compare --backends \
                 threads,epoll --idle 0,5000` measures where it bends before.",
            ))
        })?;
        Ok(text.0)
    },
};

/// What a process has, and what the kernel has of all.
struct Process {
    threads: usize,
    space: u64,
    memory: u64,
    mappings: u64,
    kernel_stacks: u64,
}

impl Process {
    fn now() -> io::Result<Process> {
        let kibibytes = |file: &str, name: &str| -> io::Result<u64> {
            let text = std::fs::read_to_string(file)?;
            let size = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let number = size.split_whitespace().next().and_then(|text| text.parse::<u64>().ok());
            Ok(number.unwrap_or_default() * 1024)
        };
        Ok(Process {
            threads: std::fs::read_dir("/proc/self/task")?.count(),
            space: kibibytes("/proc/self/status", "VmSize:")?,
            memory: usage::private_memory().unwrap_or_default(),
            mappings: std::fs::read_to_string("/proc/self/maps")?.lines().count() as u64,
            kernel_stacks: kibibytes("/proc/meminfo", "KernelStack:")?,
        })
    }
}

/// How often the other threads of this process have gone to sleep by themselves: as soon as all of them sleep, and it is
/// so often at least.
fn sleeps(experiment: &Experiment<'_>, certain: u64) -> io::Result<u64> {
    let this = thread_number();
    experiment.until("the server to sleep", || {
        let (mut slept, mut awake) = (0, false);
        for task in std::fs::read_dir("/proc/self/task")? {
            let path = task?.path();
            if path.file_name().and_then(|name| name.to_str()?.parse().ok()) == this {
                continue;
            }
            // Over, meanwhile.
            let Ok(status) = std::fs::read_to_string(path.join("status")) else { continue };
            let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
            slept += line("voluntary_ctxt_switches:").parse::<u64>().unwrap_or_default();
            awake |= !line("State:").starts_with('S');
        }
        Ok((!awake && slept >= certain).then_some(slept))
    })
}

/// For how many clients there can be a thread on this host, and which of its limits is met first.
fn limit_of_threads(experiment: &mut Experiment<'_>, memory: u64, mappings: u64) -> (u64, &'static str) {
    let number = |file: &str| std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let host = crate::limits::Limits::gather();
    let limits = [
        ("descriptors of a process (RLIMIT_NOFILE)", host.connections()),
        ("threads of all processes (kernel.threads-max)", number("/proc/sys/kernel/threads-max")),
        ("numbers of processes and threads (kernel.pid_max)", number("/proc/sys/kernel/pid_max")),
        (
            "mappings of a process (vm.max_map_count)",
            number("/proc/sys/vm/max_map_count").and_then(|most| most.checked_div(mappings)),
        ),
        ("memory that can be had", host.memory.and_then(|bytes| bytes.checked_div(memory))),
    ];
    experiment.note("what this host has for threads, at so much for each client");
    for (what, most) in limits {
        experiment.figure(what, most.map_or("not told".to_owned(), |most| format!("{most} clients")), "/proc");
    }
    let least = limits.into_iter().filter_map(|(what, most)| Some((most?, what))).min();
    least.unwrap_or((u64::MAX, "nothing that is told"))
}
