//! What the readings of all processes come to. Pure: no clock, no input and
//! output. `--json` prints it as it is.

pub(super) mod replication;
pub(super) mod sidecar;

use super::rates::Rates;
use super::watched::Watched;
use replication::Replication;
use serde::Serialize;
use sidecar::Process;

#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Model {
    /// In the order of their addresses.
    pub(super) processes: Vec<Process>,
    /// By region and namespace.
    pub(super) replication: Vec<Replication>,
}

impl Model {
    /// Of all namespaces, or of one.
    pub(super) fn new(watched: &[Watched], namespace: Option<&str>) -> Model {
        let is_shown = |name: &str| namespace.is_none_or(|only| only == name);
        Model {
            processes: watched
                .iter()
                .map(|one| sidecar::process(one, is_shown))
                .collect(),
            replication: replication::replication(watched, is_shown),
        }
    }

    /// Whether any process answered.
    pub(super) fn any_answered(&self) -> bool {
        self.processes.iter().any(|one| one.error.is_none())
    }
}

/// A counter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Counted {
    /// Since the processes began, those together that say it.
    pub(super) total: Option<u64>,
    /// Between the last two readings.
    pub(super) per_second: Option<f64>,
}

impl Counted {
    fn of(rates: &Rates<'_>, name: &str, labels: &[(&str, &str)]) -> Counted {
        Counted {
            total: rates.now().sum(name, labels).map(|total| total as u64),
            per_second: rates.per_second(name, labels),
        }
    }

    /// Of several processes. What one of them can't tell yet is left out.
    pub(super) fn add(&mut self, other: Counted) {
        self.total = match (self.total, other.total) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
        self.per_second = match (self.per_second, other.per_second) {
            (Some(one), Some(other)) => Some(one + other),
            (one, other) => one.or(other),
        };
    }
}
