//! A small harness for ratios: all arms run in every round, so that what disturbs one disturbs all.
#![allow(missing_docs, reason = "a bench is no library")]

pub mod packets;
pub mod tls;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Rounds at the start that do not count: caches, page faults, window growth.
const WARM_UP: usize = 2;
/// The interquartile range of the reference arm, in percent of its median, from which on nothing can be said, unless
/// both quartiles of the ratio are on the same side of the limit.
const NOISY: f64 = 25.0;

/// Rounds to run: at least 15 that count, or as many as `PTERODAPTER_BENCH_ROUNDS` says.
pub fn rounds() -> usize {
    let asked = std::env::var("PTERODAPTER_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    WARM_UP + asked.unwrap_or(15)
}

#[expect(clippy::disallowed_methods, reason = "benches measure real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The measurements of one run, by arm.
#[derive(Default)]
pub struct Run {
    arms: Vec<(String, Vec<f64>)>,
}

/// What is left of the measurements of one arm.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub quartiles: [f64; 2],
    /// Interquartile range in percent of the median.
    pub iqr: f64,
}

/// A promise: `numerator` is at most (or, with `at_least`, at least) `limit` times `denominator`.
pub struct Target {
    pub what: &'static str,
    pub numerator: &'static str,
    pub denominator: &'static str,
    pub at_least: bool,
    pub limit: f64,
}

/// `numerator` is at least `limit` times `denominator`.
pub const fn at_least(
    what: &'static str,
    numerator: &'static str,
    denominator: &'static str,
    limit: f64,
) -> Target {
    Target { what, numerator, denominator, at_least: true, limit }
}

/// How a run ended; what is worse is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Good,
    Noisy,
    Missed,
}

impl Run {
    /// Adds a measurement.
    pub fn record(&mut self, arm: &str, value: f64) {
        match self.arms.iter_mut().find(|(name, _)| name == arm) {
            Some((_, values)) => values.push(value),
            None => self.arms.push((arm.to_owned(), vec![value])),
        }
    }

    /// Median, minimum and spread of an arm, without the warm-up.
    pub fn summary(&self, arm: &str) -> Option<Summary> {
        summarise(self.values(arm)?.to_vec())
    }

    /// The measurements of an arm, one per round, without the warm-up.
    fn values(&self, arm: &str) -> Option<&[f64]> {
        self.arms.iter().find(|(name, _)| name == arm)?.1.get(WARM_UP..)
    }

    /// All arms as a Markdown table; `unit` is what the numbers are.
    pub fn table(&self, unit: &str) -> String {
        let mut text = format!("| arm | median, {unit} | min | IQR |\n|---|---|---|---|\n");
        for (arm, _) in &self.arms {
            if let Some(Summary { median, min, iqr, .. }) = self.summary(arm) {
                let _ = writeln!(text, "| {arm} | {median:.0} | {min:.0} | {iqr:.0} % |");
            }
        }
        text
    }

    /// The ratios that were promised, as a Markdown table, and whether they hold. Each is the median of the rounds'
    /// ratios: what slowed a whole round down drops out.
    pub fn judge(&self, targets: &[Target]) -> (String, Verdict) {
        let mut text = String::from("| ratio | measured | target | |\n|---|---|---|---|\n");
        let mut verdict = Verdict::Good;
        for target in targets {
            let (Some(above), Some(below)) = (self.values(target.numerator), self.values(target.denominator))
            else {
                continue;
            };
            let ratios = above.iter().zip(below).map(|(above, below)| above / below).collect();
            let (Some(ratio), Some(reference)) = (summarise(ratios), summarise(below.to_vec())) else {
                continue;
            };
            let holds = |ratio| if target.at_least { ratio >= target.limit } else { ratio <= target.limit };
            let [low, high] = ratio.quartiles.map(holds);
            let (word, one) = match (reference.iqr > NOISY && low != high, holds(ratio.median)) {
                (true, _) => ("noisy", Verdict::Noisy),
                (false, true) => ("good", Verdict::Good),
                (false, false) => ("MISSED", Verdict::Missed),
            };
            verdict = verdict.max(one);
            let sign = if target.at_least { ">=" } else { "<=" };
            let _ = writeln!(
                text,
                "| {} | {:.2} | {sign} {:.2} | {word} |",
                target.what, ratio.median, target.limit
            );
        }
        (text, verdict)
    }
}

fn summarise(mut values: Vec<f64>) -> Option<Summary> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get((share * (values.len() as f64 - 1.0)).round() as usize).copied();
    let (median, quartiles) = (at(0.5)?, [at(0.25)?, at(0.75)?]);
    let iqr = 100.0 * (quartiles[1] - quartiles[0]) / median;
    Some(Summary { median, min: *values.first()?, quartiles, iqr })
}

/// Prints the report and, where `PTERODAPTER_BENCH_OUT` names a directory, leaves it there as `<name>.md`.
pub fn report(name: &str, text: &str) {
    println!("{text}");
    if let Some(directory) = std::env::var_os("PTERODAPTER_BENCH_OUT") {
        let path = std::path::Path::new(&directory).join(name).with_extension("md");
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("{}: {error}", path.display());
        }
    }
}

/// The machine, for the head of a report.
pub fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown CPU", |(_, name)| name.trim()).to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{model}, {cores} cores, Linux {}, load {}",
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or_default()
    )
}

/// Exit code of a bench: 0 all targets met, 1 missed, 2 nothing can be said.
pub fn exit(verdict: Verdict) -> std::process::ExitCode {
    match verdict {
        Verdict::Good => std::process::ExitCode::SUCCESS,
        Verdict::Missed => std::process::ExitCode::from(1),
        Verdict::Noisy => std::process::ExitCode::from(2),
    }
}
