//! The families that every process has, from `/proc/self` (`proc(5)`): the names that Prometheus's own clients use.

use std::fs;

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// A tick of `/proc`, in seconds: the kernel's interface has 100 a second whatever its own clock does.
const TICK: f64 = 0.01;

/// What is known about the process; 0 where it can't be read.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    cpu_seconds: f64,
    start_ticks: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    open_files: f64,
    /// `None`: unlimited.
    max_files: Option<f64>,
}

/// Their families now.
pub(super) fn families() -> Vec<MetricFamily> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{name}")).unwrap_or_default();
    let mut facts = Facts::default();
    facts.stat(&read("self/stat"));
    facts.status(&read("self/status"));
    facts.max_files = max_files(&read("self/limits"));
    // One of them is the one that counts them.
    facts.open_files =
        fs::read_dir("/proc/self/fd").map_or(0, |files| files.count().saturating_sub(1)) as f64;
    facts.families(boot_time(&read("stat")))
}

impl Facts {
    /// `/proc/self/stat`. The name in brackets may hold anything, so fields are counted behind its end.
    fn stat(&mut self, text: &str) {
        let Some((_, rest)) = text.rsplit_once(')') else { return };
        let fields: Vec<f64> =
            rest.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0.0)).collect();
        // `state` is the third field of the page and the first behind the name.
        let field = |number: usize| fields.get(number - 4).copied().unwrap_or(0.0);
        self.cpu_seconds = (field(14) + field(15)) * TICK;
        self.threads = field(20);
        self.start_ticks = field(22);
    }

    /// `/proc/self/status`: memory in kB, whatever the size of a page.
    fn status(&mut self, text: &str) {
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
        };
        self.virtual_bytes = bytes("VmSize:").unwrap_or(0.0);
        self.resident_bytes = bytes("VmRSS:").unwrap_or(0.0);
    }

    fn families(&self, boot: f64) -> Vec<MetricFamily> {
        let mut families = Vec::with_capacity(7);
        if let Ok(cpu) =
            Counter::new("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
        {
            cpu.inc_by(self.cpu_seconds);
            families.extend(cpu.collect());
        }
        let start = boot + self.start_ticks * TICK;
        for (name, help, value) in [
            ("process_open_fds", "Number of open file descriptors.", self.open_files),
            (
                "process_max_fds",
                "Maximum number of open file descriptors.",
                self.max_files.unwrap_or(u64::MAX as f64),
            ),
            ("process_virtual_memory_bytes", "Virtual memory size in bytes.", self.virtual_bytes),
            ("process_resident_memory_bytes", "Resident memory size in bytes.", self.resident_bytes),
            ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", start),
            ("process_threads", "Number of OS threads in the process.", self.threads),
        ] {
            if let Ok(gauge) = Gauge::new(name, help) {
                gauge.set(value);
                families.extend(gauge.collect());
            }
        }
        families
    }
}

/// The soft limit of `/proc/self/limits`.
fn max_files(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// When the machine started, in Unix seconds: `/proc/stat`.
fn boot_time(text: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_found_whatever_the_name() {
        let mut facts = Facts::default();
        facts.stat(
            "42 (a) (b 1 2 3) S 1 42 42 0 -1 4194560 100 0 5 0 150 50 0 0 20 0 7 0 123456 9000 300 18446744073709551615 1",
        );
        facts.status("Name:\tx\nVmSize:\t   2000 kB\nVmRSS:\t    10 kB\n");
        let expected = Facts {
            cpu_seconds: 2.0,
            start_ticks: 123_456.0,
            threads: 7.0,
            virtual_bytes: 2_048_000.0,
            resident_bytes: 10_240.0,
            ..Facts::default()
        };
        assert_eq!(facts, expected);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 4096                 files     \n";
        assert_eq!(max_files(limits), Some(1024.0));
        assert_eq!(
            max_files("Max open files            unlimited            unlimited            files\n"),
            None
        );
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), 1_700_000_000.0);
    }

    #[test]
    fn this_process_has_them_all() {
        let families = families();
        let value = |name: &str| {
            let family = families.iter().find(|family| family.name() == name).unwrap();
            let metric = &family.get_metric()[0];
            metric.get_gauge().get_value() + metric.get_counter().get_value()
        };
        for name in ["process_open_fds", "process_max_fds", "process_virtual_memory_bytes", "process_threads"]
        {
            assert!(value(name) >= 1.0, "{name}");
        }
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        // Both are rounded to seconds somewhere.
        assert!((value("process_start_time_seconds") - now).abs() < 86_400.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let mut facts = Facts::default();
            facts.stat(&text);
            facts.status(&text);
            let _ = (max_files(&text), boot_time(&text), facts.families(0.0));
        }
    }
}
