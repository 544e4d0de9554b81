//! What happened between two readings of one process.
//!
//! A counter that is smaller than it was began anew, with its process: what it
//! did meanwhile is not known, and the new value is what the next one is
//! compared with. One that was not there before counted from 0.

use super::exposition::{Sample, Samples};
use std::collections::BTreeMap;
use std::time::Duration;

/// Compares two readings; without an earlier one nothing is known.
#[derive(Clone, Copy)]
pub(super) struct Rates<'a> {
    now: &'a Samples,
    before: Option<(&'a Samples, f64)>,
}

impl<'a> Rates<'a> {
    /// `before` is the earlier reading, and how long it was before this one.
    pub(super) fn new(now: &'a Samples, before: Option<(&'a Samples, Duration)>) -> Rates<'a> {
        let before = before.map(|(samples, apart)| (samples, apart.as_secs_f64()));
        Rates {
            now,
            before: before.filter(|(_, seconds)| *seconds > 0.0),
        }
    }

    /// The later reading.
    pub(super) fn now(&self) -> &'a Samples {
        self.now
    }

    /// How much a counter grew a second, all with these labels together. None
    /// where there is no such counter, or it can't be told.
    pub(super) fn per_second(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let (_, seconds) = self.before?;
        let mut sum = None;
        for sample in self.now.all(name, labels) {
            sum = Some(sum.unwrap_or(0.0) + self.growth(name, sample)?);
        }
        sum.map(|sum| sum / seconds)
    }

    /// The value that `quantile` (0 to 1) of what a histogram has seen meanwhile
    /// did not exceed, taken to be spread evenly within a bucket. None where it
    /// has seen nothing.
    pub(super) fn quantile(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        quantile: f64,
    ) -> Option<f64> {
        let name = format!("{name}_bucket");
        // By bound, which is positive: its bits are in the same order.
        let mut buckets: BTreeMap<u64, f64> = BTreeMap::new();
        for sample in self.now.all(&name, labels) {
            let bound: f64 = sample.label("le")?.parse().ok()?;
            *buckets.entry(bound.max(0.0).to_bits()).or_default() += self.growth(&name, sample)?;
        }
        let (_, total) = buckets.last_key_value()?;
        let rank = total * quantile;
        if *total <= 0.0 {
            return None;
        }
        let (mut lower, mut below) = (0.0, 0.0);
        for (bits, count) in buckets {
            let bound = f64::from_bits(bits);
            if rank <= count {
                // Above the last bound nothing more is known.
                let is_last = bound.is_infinite();
                let share = (rank - below) / (count - below);
                return Some(if is_last {
                    lower
                } else {
                    lower + (bound - lower) * share
                });
            }
            (lower, below) = (bound, count);
        }
        None
    }

    fn growth(&self, name: &str, sample: &Sample) -> Option<f64> {
        let (before, _) = self.before?;
        let before = before.same(name, &sample.labels).unwrap_or(0.0);
        let growth = sample.value - before;
        (growth >= 0.0).then_some(growth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(before: &str, now: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let (before, now) = (Samples::parse(before), Samples::parse(now));
        let (before, now) = (before.unwrap(), now.unwrap());
        let rates = Rates::new(&now, Some((&before, Duration::from_secs(2))));
        rates.per_second("a", labels)
    }

    #[test]
    fn counters_are_compared_one_by_one() {
        let before = "a{x=\"1\"} 10\na{x=\"2\"} 5\n";
        for (now, labels, expected) in [
            ("a{x=\"1\"} 14\na{x=\"2\"} 5\n", &[][..], Some(2.0)),
            (
                "a{x=\"1\"} 14\na{x=\"2\"} 7\n",
                &[("x", "2")][..],
                Some(1.0),
            ),
            // One that is new counted from 0.
            (
                "a{x=\"1\"} 10\na{x=\"3\"} 8\n",
                &[("x", "3")][..],
                Some(4.0),
            ),
            // A counter that went back is a new baseline, whatever the others say.
            ("a{x=\"1\"} 100\na{x=\"2\"} 4\n", &[][..], None),
            ("a{x=\"1\"} NaN\n", &[][..], None),
            ("b 1\n", &[][..], None),
        ] {
            assert_eq!(rate(before, now, labels), expected, "{now} {labels:?}");
        }
    }

    #[test]
    fn without_a_time_between_them_nothing_is_known() {
        let samples = Samples::parse("a 1\n").unwrap();
        assert_eq!(Rates::new(&samples, None).per_second("a", &[]), None);
        let rates = Rates::new(&samples, Some((&samples, Duration::ZERO)));
        assert_eq!(rates.per_second("a", &[]), None);
    }

    fn histogram(counts: [u32; 3]) -> Samples {
        let [first, second, all] = counts;
        let text = format!(
            "h_bucket{{le=\"0.1\"}} {first}\nh_bucket{{le=\"1\"}} {second}\n\
             h_bucket{{le=\"+Inf\"}} {all}\nh_sum 7\nh_count {all}\n"
        );
        Samples::parse(&text).unwrap()
    }

    #[test]
    fn quantiles_are_of_what_came_between() {
        // Ten slow ones came before, and are not looked at.
        let before = histogram([0, 10, 10]);
        for (now, quantile, expected) in [
            ([100, 110, 110], 0.5, Some(0.05)),
            ([0, 110, 110], 0.5, Some(0.55)),
            ([50, 110, 110], 0.5, Some(0.1)),
            ([0, 10, 20], 0.99, Some(1.0)),
            ([0, 10, 10], 0.99, None),
            ([0, 0, 5], 0.99, None),
        ] {
            let now = histogram(now);
            let rates = Rates::new(&now, Some((&before, Duration::from_secs(1))));
            let found = rates.quantile("h", &[], quantile);
            let is_right = match (found, expected) {
                (Some(found), Some(expected)) => f64::abs(found - expected) < 1e-9,
                (found, expected) => found == expected,
            };
            assert!(is_right, "{now:?} {quantile}: {found:?}, not {expected:?}");
        }
        assert_eq!(
            Rates::new(&before, None).quantile("h", &[], 0.5),
            None,
            "what came before the first reading is not known"
        );
    }
}
