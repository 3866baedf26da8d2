//! The workloads that come with the program: compiled in, so that the program needs no file.

use super::Workload;

macro_rules! files {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("../../../benches/workloads/", $name, ".toml")))),*]
    };
}

/// The presets first, then one question each.
const FILES: [(&str, &str); 25] = files! {
    "default" "quick" "shape"
    "ping-pong" "idle-crowd" "active-fraction" "payload" "pipelining" "streaming" "write-interest"
    "churn" "connect-burst" "deadlines" "threads"
    "open-loop" "rare" "dead-connections" "transport" "fairness" "sizes"
    "spinning" "libevent-bench" "position" "set-up" "channels"
};

pub(super) fn all() -> Vec<Workload> {
    let parsed = |(name, text)| Workload::parse(text, name).expect("every shipped workload parses: tested below");
    FILES.into_iter().map(parsed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::definition::names_in;

    #[test]
    fn every_file_parses_is_called_as_its_file_and_none_is_forgotten() {
        for (name, text) in FILES {
            let workload = Workload::parse(text, name).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(workload.name, name);
            for (which, prose) in [("shows", &workload.shows), ("hides", &workload.hides), ("expect", &workload.expect)]
            {
                assert!(prose.split_whitespace().count() >= 12, "{name}: {which} is a paragraph: {prose:?}");
            }
            assert!(workload.title.chars().count() <= 90, "{name}: a title is a line");
        }
        let mut compiled_in = FILES.map(|(name, _)| name);
        compiled_in.sort_unstable();
        assert_eq!(names_in("workloads"), compiled_in);
    }
}
