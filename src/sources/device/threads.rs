//! How many threads, for libtorch and for rayon.

/// Sets the threads of libtorch and of rayon, and returns their number; `None` takes one per physical core
/// that this process may use. Must come before the first parallel work: rayon keeps the pool that it has by
/// then.
pub fn set_threads(threads: Option<usize>) -> usize {
    let threads = threads.unwrap_or_else(physical_cores).clamp(1, 1024);
    tch::set_num_threads(threads as i32);
    // An error means that the pool exists, as the doc comment says.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    threads
}

/// Physical cores among the processors that this process may use: two hyperthreads of a core share its
/// multipliers.
pub fn physical_cores() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    // Where the system does not tell, every processor counts as a core.
    allowed_cores().map_or(logical, |cores| cores.clamp(1, logical))
}

fn allowed_cores() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let siblings = |cpu: usize| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"))
            .ok()
    };
    let cores: Option<std::collections::BTreeSet<String>> =
        parse_cpu_list(list)?.into_iter().map(siblings).collect();
    cores.map(|cores| cores.len())
}

/// `0-3,8` as Linux writes it.
fn parse_cpu_list(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted() {
        assert_eq!(parse_cpu_list("\t0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse_cpu_list("x"), None);
        let logical = std::thread::available_parallelism().unwrap().get();
        assert!((1..=logical).contains(&physical_cores()));
    }
}
