//! Facts of the host, as far as it shows them: what a reader needs to judge a measurement, or to repeat it.
//!
//! Nothing here fails. What a system does not show, or does not show to this process, is `None`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits::Limits;

/// The Cargo.lock beside the sources, or nothing.
const LOCK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/Cargo.lock"));

/// The host and the program, when the measuring began.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// The operating system: `linux`, `macos`, `freebsd`, …
    pub os: String,
    /// Its kernel's name, release and version, as uname(1) shows them.
    pub kernel: Option<String>,
    /// The architecture: `x86_64`, `aarch64`, …
    pub arch: String,
    /// Model of the first CPU.
    pub cpu: Option<String>,
    /// CPUs this process may use.
    pub cores: Option<u32>,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
    /// The hypervisor, or "yes" where the CPU says that there is one and nothing says which; `None` if it does not say.
    pub virtual_machine: Option<String>,
    /// The container this runs in, where it shows.
    pub container: Option<String>,
    /// Seccomp mode of this process: 0 none, 1 strict, 2 filtered.
    pub seccomp: Option<u32>,
    /// Frequency governor of the first CPU.
    pub governor: Option<String>,
    /// Whether clock frequencies above the nominal are allowed.
    pub turbo: Option<bool>,
    /// Whether several CPUs share a core.
    pub smt: Option<bool>,
    /// What the kernel does about each vulnerability of the CPU.
    pub mitigations: BTreeMap<String, String>,
    /// What the kernel takes time from.
    pub clocksource: Option<String>,
    /// Descriptors this process may open (soft limit).
    pub nofile_soft: Option<u64>,
    /// How far it may raise that (hard limit).
    pub nofile_hard: Option<u64>,
    /// How many files all processes together may open.
    pub files_most: Option<u64>,
    /// Longest queue of connections not yet accepted.
    pub somaxconn: Option<u64>,
    /// Longest queue of connections not yet established, where the kernel sends no cookies instead.
    pub syn_backlog: Option<u64>,
    /// Ports the kernel chooses from for outgoing connections, first and last.
    pub port_range: Option<(u16, u16)>,
    /// Most sockets kept in TIME_WAIT.
    pub time_wait_most: Option<u64>,
    /// Most connections the packet filter keeps track of.
    pub tracked_most: Option<u64>,
    /// Largest packet of the loopback interface.
    pub loopback_mtu_bytes: Option<u64>,
    /// Load average over one minute, when the measuring began.
    pub load_average: Option<f64>,
    /// The sysctl `kernel.io_uring_disabled`: 0 allowed, 1 for the privileged, 2 for none.
    pub io_uring_disabled: Option<u32>,
    /// The compiler.
    pub rustc: String,
    /// The build: target, profile and optimisation.
    pub build: String,
    /// The commit, "+" after it if the sources differed from it.
    pub commit: Option<String>,
    /// Flags the compiler was given beyond the profile.
    pub flags: String,
    /// Features of the package that were on.
    pub features: String,
    /// SHA-256 of the Cargo.lock that stood beside the sources.
    pub lock_sha256: Option<String>,
    /// SHA-256 of the program file.
    pub binary_sha256: Option<String>,
}

impl Host {
    /// What there is to say of a machine that was overloaded when the measuring began. A build just before is not that.
    pub(crate) fn warning(&self) -> Option<String> {
        let (load, cores) = (self.load_average?, self.cores?);
        (load > 1.5 * cores as f64).then(|| {
            format!(
                "busy: the load average was {load:.1} on {cores} CPUs in the minute before: if what ran then ran on, \
                 times are worth little; repeat this on a quiet machine"
            )
        })
    }

    /// Looks around.
    pub fn gather() -> Host {
        let commit = env!("POLLMARK_COMMIT");
        let mut host = Host {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cores: std::thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok()),
            rustc: env!("POLLMARK_RUSTC").to_owned(),
            build: format!("{}, {}", env!("POLLMARK_TARGET"), env!("POLLMARK_PROFILE")),
            commit: (!commit.is_empty()).then(|| commit.to_owned()),
            flags: env!("POLLMARK_FLAGS").to_owned(),
            features: env!("POLLMARK_FEATURES").to_owned(),
            lock_sha256: (!LOCK.is_empty()).then(|| hexadecimal(&Sha256::digest(LOCK))),
            binary_sha256: binary(),
            ..Host::default()
        };
        #[cfg(unix)]
        host.ask_unix();
        host.kernel =
            pollmark_backends::wine().map(|version| format!("wine {version}, which is not Windows")).or(host.kernel);
        let limits = Limits::gather();
        (host.nofile_soft, host.nofile_hard) = (limits.descriptors, limits.descriptors_hard);
        (host.somaxconn, host.syn_backlog, host.port_range) = (limits.backlog, limits.syn_queue, limits.ports);
        host.time_wait_most = limits.time_wait_most;
        (host.files_most, host.tracked_most) = (limits.files.map(|files| files.1), limits.tracked.map(|all| all.1));
        if cfg!(linux_like) {
            host.read_proc();
            host.read_sys();
        }
        host
    }

    #[cfg(unix)]
    fn ask_unix(&mut self) {
        let name = rustix::system::uname();
        let parts = [name.sysname(), name.release(), name.version()];
        self.kernel = Some(parts.map(|part| part.to_string_lossy()).join(" "));
    }

    fn read_proc(&mut self) {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        self.cpu = field(&cpu, "model name");
        let named = text("/sys/hypervisor/type").or_else(|| text("/sys/class/dmi/id/sys_vendor"));
        self.virtual_machine = has_hypervisor(&cpu).then(|| named.unwrap_or_else(|| "yes".to_owned()));

        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = field(&memory, "MemTotal").and_then(|total| total.split(' ').next()?.parse::<u64>().ok());
        self.memory_bytes = kilobytes.map(|kilobytes| kilobytes * 1024);

        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.seccomp = field(&status, "Seccomp").and_then(|mode| mode.parse().ok());
        self.container = container();
        self.load_average = text("/proc/loadavg").and_then(|load| load.split(' ').next()?.parse().ok());

        self.io_uring_disabled = number("/proc/sys/kernel/io_uring_disabled");
    }

    fn read_sys(&mut self) {
        let cpu = Path::new("/sys/devices/system/cpu");
        self.governor = text(cpu.join("cpu0/cpufreq/scaling_governor"));
        let forbidden = number::<u8>(cpu.join("intel_pstate/no_turbo")).map(|forbidden| forbidden == 0);
        self.turbo = forbidden.or_else(|| number::<u8>(cpu.join("cpufreq/boost")).map(|boost| boost == 1));
        self.smt = number::<u8>(cpu.join("smt/active")).map(|active| active == 1);
        for entry in fs::read_dir(cpu.join("vulnerabilities")).into_iter().flatten().flatten() {
            if let Some(state) = text(entry.path()) {
                self.mitigations.insert(entry.file_name().to_string_lossy().into_owned(), state);
            }
        }
        self.clocksource = text("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        self.loopback_mtu_bytes = number("/sys/class/net/lo/mtu");
    }

    /// The facts as a reader is shown them: name and value, those unknown left out.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        fn yes_or_no(value: bool) -> String {
            if value { "on" } else { "off" }.to_owned()
        }
        let limit = match (self.nofile_soft, self.nofile_hard) {
            (Some(soft), Some(hard)) => Some(format!("{soft} soft, {hard} hard")),
            (Some(soft), None) => Some(format!("{soft} soft, unlimited hard")),
            (None, _) => None,
        };
        let mitigations = self.mitigations.iter().map(|(name, state)| format!("{name}: {state}")).collect::<Vec<_>>();
        let facts = [
            ("system", Some(format!("{} {}", self.os, self.arch))),
            ("kernel", self.kernel.clone()),
            ("CPU", self.cpu.clone()),
            ("CPUs", self.cores.map(|cores| cores.to_string())),
            ("memory", self.memory_bytes.map(|bytes| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64))),
            ("virtual machine", self.virtual_machine.clone()),
            ("container", self.container.clone()),
            ("seccomp mode", self.seccomp.map(|mode| mode.to_string())),
            ("frequency governor", self.governor.clone()),
            ("turbo", self.turbo.map(yes_or_no)),
            ("SMT", self.smt.map(yes_or_no)),
            ("clock source", self.clocksource.clone()),
            ("load average", self.load_average.map(|load| load.to_string())),
            ("descriptors (ulimit -n)", limit),
            ("fs.file-max", self.files_most.map(|most| most.to_string())),
            ("somaxconn", self.somaxconn.map(|most| most.to_string())),
            ("tcp_max_syn_backlog", self.syn_backlog.map(|most| most.to_string())),
            ("local ports", self.port_range.map(|(first, last)| format!("{first} to {last}"))),
            ("tcp_max_tw_buckets", self.time_wait_most.map(|most| most.to_string())),
            ("nf_conntrack_max", self.tracked_most.map(|most| most.to_string())),
            ("MTU of lo", self.loopback_mtu_bytes.map(|bytes| bytes.to_string())),
            ("io_uring_disabled", self.io_uring_disabled.map(|level| level.to_string())),
            ("mitigations", (!mitigations.is_empty()).then(|| mitigations.join("; "))),
            ("compiler", (!self.rustc.is_empty()).then(|| self.rustc.clone())),
            ("build", (!self.build.is_empty()).then(|| self.build.clone())),
            ("commit", self.commit.clone()),
            ("flags", (!self.flags.is_empty()).then(|| self.flags.clone())),
            ("features", (!self.features.is_empty()).then(|| self.features.clone())),
            ("SHA-256 of Cargo.lock", self.lock_sha256.clone()),
            ("SHA-256 of the program", self.binary_sha256.clone()),
        ];
        facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Host {
    /// The facts that are not the same in the other: name, value here, value there. Those that change by the minute
    /// are left out.
    pub fn differences(&self, other: &Host) -> Vec<(&'static str, String, String)> {
        let steady = |host: &Host| Host { load_average: None, ..host.clone() }.facts();
        let (here, there) = (steady(self), steady(other));
        let of = |facts: &[(&str, String)], name: &str| {
            facts.iter().find(|(one, _)| *one == name).map_or("unknown".to_owned(), |(_, value)| value.clone())
        };
        let names = here.iter().map(|(name, _)| *name);
        let others = there.iter().map(|(name, _)| *name).filter(|name| here.iter().all(|(one, _)| one != name));
        let both = names.chain(others).map(|name| (name, of(&here, name), of(&there, name)));
        both.filter(|(_, here, there)| here != there).collect()
    }

    /// As above, of the facts by which two machines can be told apart. If there are none it is one machine, or two of
    /// a kind. What can be changed without a screwdriver is not among them: kernel, limits, settings, programs.
    pub fn machine_differences(&self, other: &Host) -> Vec<(&'static str, String, String)> {
        let of_machine = ["system", "CPU", "CPUs", "virtual machine"];
        let mut differences = self.differences(other);
        // Kernels keep more or less of it to themselves, so it is not the same to the byte.
        let close = |one: u64, other: u64| one.abs_diff(other) <= one / 50;
        let memory = self.memory_bytes.zip(other.memory_bytes).is_some_and(|(one, other)| !close(one, other));
        differences.retain(|(name, ..)| of_machine.contains(name) || (*name == "memory" && memory));
        differences
    }
}

/// The hash of the program file; it is read once.
fn binary() -> Option<String> {
    static HASH: OnceLock<Option<String>> = OnceLock::new();
    let read = || {
        let mut file = fs::File::open(std::env::current_exe().ok()?).ok()?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut buffer).ok()? {
                0 => return Some(hexadecimal(&hash.finalize())),
                read => hash.update(&buffer[..read]),
            }
        }
    };
    HASH.get_or_init(read).clone()
}

/// The SHA-256 of `bytes`, as sha256sum(1) writes it.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signs containers leave: files of their runtime, or what it tells its processes.
fn container() -> Option<String> {
    let files = [("/.dockerenv", "docker"), ("/run/.containerenv", "podman")];
    let left = files.iter().find(|(file, _)| Path::new(file).exists()).map(|(_, name)| (*name).to_owned());
    left.or_else(|| std::env::var("container").ok())
        .or_else(|| std::env::var_os("KUBERNETES_SERVICE_HOST").map(|_| "kubernetes".to_owned()))
}

/// The only sign that every hypervisor leaves on x86: a flag of the CPU.
fn has_hypervisor(cpuinfo: &str) -> bool {
    field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn number<T: std::str::FromStr>(path: impl AsRef<Path>) -> Option<T> {
    text(path)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_knows_how_it_was_built() {
        let host = Host::gather();
        assert!(host.rustc.starts_with("rustc 1."), "{}", host.rustc);
        assert!(host.build.contains("opt-level") && host.build.contains(std::env::consts::ARCH), "{}", host.build);
    }

    #[test]
    fn the_program_is_named_by_what_other_tools_find_too() {
        let host = Host::gather();
        // The example of FIPS 180-2.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hexadecimal(&Sha256::digest("abc")), abc);
        let file = fs::read(std::env::current_exe().expect("a test is a program")).expect("readable");
        assert_eq!(host.binary_sha256, Some(hexadecimal(&Sha256::digest(&file))));
        let lock = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).expect("readable");
        assert_eq!(host.lock_sha256, Some(hexadecimal(&Sha256::digest(&lock))));
        assert!(host.features.split(' ').any(|feature| feature == "report"), "{}", host.features);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_shows_the_main_facts() {
        let host = Host::gather();
        let kernel = host.kernel.as_deref().expect("uname");
        assert!(kernel.starts_with("Linux "), "{kernel}");
        assert!(host.cores.expect("cores") >= 1 && host.memory_bytes.expect("MemTotal") > 1 << 20);
        assert!(host.nofile_soft.expect("soft limit") <= host.nofile_hard.unwrap_or(u64::MAX));
        assert!(host.somaxconn.expect("somaxconn") > 0 && host.seccomp.is_some() && host.load_average.is_some());
        let (first, last) = host.port_range.expect("ip_local_port_range");
        assert!(first < last, "{first} {last}");
        let names = host.facts().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert!(["kernel", "CPUs", "memory", "local ports"].iter().all(|name| names.contains(name)), "{names:?}");
    }

    #[test]
    fn an_overloaded_machine_is_told_of_and_one_that_has_just_built_us_is_not() {
        let host = |load| Host { load_average: load, cores: Some(2), ..Host::default() };
        assert_eq!([host(None), host(Some(2.4))].map(|host| host.warning()), [None, None]);
        let warning = host(Some(11.56)).warning().expect("a warning");
        assert!(warning.starts_with("busy: the load average was 11.6 on 2 CPUs"), "{warning}");
    }

    #[test]
    fn a_machine_stays_the_same_under_another_kernel_and_is_another_with_other_processors() {
        let here = Host { cpu: Some("A".into()), kernel: Some("6.1".into()), cores: Some(2), ..Host::default() };
        let here = Host { memory_bytes: Some(8 << 30), load_average: Some(0.1), ..here };
        let again = Host { kernel: Some("6.2".into()), memory_bytes: Some((8 << 30) - (9 << 20)), ..here.clone() };
        let again = Host { load_average: Some(7.0), ..again };
        assert_eq!(here.machine_differences(&again), []);
        assert_eq!(here.differences(&again), [("kernel", "6.1".to_owned(), "6.2".to_owned())]);
        let other = Host { cores: Some(4), memory_bytes: Some(16 << 30), cpu: None, ..here.clone() };
        let names = here.machine_differences(&other).into_iter().map(|(name, ..)| name).collect::<Vec<_>>();
        assert_eq!(names, ["CPU", "CPUs", "memory"]);
        assert!(other.differences(&here).contains(&("CPU", "unknown".to_owned(), "A".to_owned())));
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let cpuinfo = "model\t\t: 1\nmodel name\t: Zen: the third\nflags : fpu hypervisor\n";
        assert_eq!(field(cpuinfo, "model name").as_deref(), Some("Zen: the third"));
        assert_eq!(field(cpuinfo, "name"), None);
    }

    #[test]
    fn a_hypervisor_is_a_flag_of_the_cpu_and_no_part_of_one() {
        assert!(has_hypervisor("flags : fpu hypervisor sse\n") && has_hypervisor("flags\t\t: fpu hypervisor\n"));
        assert!(!has_hypervisor("flags : fpu no_hypervisor\n") && !has_hypervisor("model name : hypervisor\n"));
    }
}
