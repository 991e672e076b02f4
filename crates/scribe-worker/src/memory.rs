//! Whether a model fits, and how large its KV cache is (the arithmetic is pure).
//!
//! Each slot has cells of its own for one request of any length. So what the cache takes is slots times context, and where
//! memory is short there are fewer slots.

use std::fs;

/// What llama.cpp needs besides weights and KV cache: scratch for a batch, and the process.
const OVERHEAD_BYTES: u64 = 300 << 20;

/// Most tokens of a request unless told otherwise: a large context that is seldom used takes memory always.
const CONTEXT_TOKENS_DEFAULT: u32 = 8192;

/// llama.cpp rounds a sequence's cells up to this.
const CELLS_STEP: u32 = 256;

/// Sequences that are copied or change places do so through the system's memory: at most so many at a time.
pub const MOVED_MAX: u32 = 2;

/// What decides on sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of the weights.
    pub weights: u64,
    /// Bytes of keys and values of a token.
    pub kv_token: u64,
    /// Tokens that the model was trained on.
    pub trained_tokens: u32,
    /// Most streams at once.
    pub slots: u32,
    /// What the operator wants.
    pub context_tokens: Option<u32>,
    /// What the operator allows all slots together.
    pub kv_tokens: Option<u32>,
    /// Copies of the weights that are made: they are stored anew for the processor's instructions.
    pub weights_copies: u64,
    /// Sequences that are copied in this memory at a time, besides those in the cache.
    pub moved: u32,
}

/// Sizes that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Most tokens of a request.
    pub context_tokens: u32,
    /// Streams at once.
    pub slots: u32,
    /// Cells of the KV cache that each has.
    pub slot_cells: u32,
}

/// Chooses sizes that fit into `available` bytes.
///
/// # Errors
/// What does not fit, and what to do.
pub fn sizes(needs: &Needs, available: u64) -> Result<Sizes, String> {
    let context = needs
        .context_tokens
        .unwrap_or(CONTEXT_TOKENS_DEFAULT)
        .min(needs.trained_tokens)
        .max(2);
    let cells = context.div_ceil(CELLS_STEP).saturating_mul(CELLS_STEP);
    let slot = needs.kv_token.saturating_mul(cells.into());
    let fixed = needs
        .weights
        .saturating_mul(1 + needs.weights_copies)
        .saturating_add(OVERHEAD_BYTES);
    let total = |slots: u32| {
        let moved = (slots - 1).min(needs.moved);
        fixed.saturating_add(slot.saturating_mul((slots + moved).into()))
    };

    let slots = match needs.kv_tokens {
        Some(tokens) if tokens < context => {
            return Err(format!(
                "a KV cache of {tokens} tokens cannot hold one request of {context}; raise --kv-tokens or lower \
                 --context-tokens"
            ));
        }
        Some(tokens) => needs.slots.min(tokens / cells).max(1),
        None => {
            let half = available.saturating_sub(fixed) / 2;
            let fits = u32::try_from(half / slot.max(1)).unwrap_or(u32::MAX);
            let most = needs.slots.min(fits).max(1);
            // What is copied at times may go into the other half.
            (1..=most).rev().find(|&slots| total(slots) <= available).unwrap_or(1)
        }
    };
    if total(slots) > available {
        return Err(format!(
            "it needs {} MB of memory ({} MB for weights and their copies, {} MB for a KV cache of {slots} times {cells} \
             tokens) and {} MB are free; lower --context-tokens or --kv-tokens, choose a smaller quantisation, or free memory",
            total(slots) >> 20,
            fixed >> 20,
            (total(slots) - fixed) >> 20,
            available >> 20,
        ));
    }
    Ok(Sizes {
        context_tokens: context,
        slots,
        slot_cells: cells,
    })
}

/// Bytes that this process may still take: what the system can give, or what its control group leaves. Nothing known is no
/// bound.
#[must_use]
pub fn available() -> u64 {
    let read = |path: &str| fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let system = read("/proc/meminfo").and_then(|text| meminfo(&text));
    let rest = |limit: &str, used: &str| Some(number(limit)?.saturating_sub(number(used)?));
    let group = rest("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current").or_else(|| {
        rest(
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        )
    });
    // A group's usage counts files that the system would drop, so its rest is the lower bound of a bound: see below.
    let cached = read("/sys/fs/cgroup/memory.stat")
        .or_else(|| read("/sys/fs/cgroup/memory/memory.stat"))
        .and_then(|text| inactive_file(&text))
        .unwrap_or(0);
    let group = group.map_or(u64::MAX, |rest| rest.saturating_add(cached));
    system.unwrap_or(u64::MAX).min(group)
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn inactive_file(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        line.strip_prefix("inactive_file ")
            .or_else(|| line.strip_prefix("total_inactive_file "))
    })?;
    line.trim().parse().ok()
}

/// Cores that share nothing with each other: two threads of one core compute no more than one.
#[must_use]
pub fn physical_cores() -> u32 {
    let usable = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let cores = fs::read_to_string("/proc/cpuinfo").map_or(0, |text| distinct_cores(&text));
    if cores == 0 { usable } else { usable.min(cores) }
}

fn distinct_cores(cpuinfo: &str) -> u32 {
    let value = |line: &str, key: &str| {
        Some(
            line.strip_prefix(key)?
                .trim_start()
                .strip_prefix(':')?
                .trim()
                .to_owned(),
        )
    };
    let mut cores: Vec<_> = cpuinfo
        .split("\n\n")
        .filter_map(|one| {
            let find = |key| one.lines().find_map(|line| value(line, key));
            Some((find("physical id")?, find("core id")?))
        })
        .collect();
    cores.sort_unstable();
    cores.dedup();
    u32::try_from(cores.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn needs() -> Needs {
        Needs {
            weights: 5000 * MB,
            kv_token: 128 << 10,
            trained_tokens: 8192,
            slots: 8,
            context_tokens: None,
            kv_tokens: None,
            weights_copies: 1,
            moved: MOVED_MAX,
        }
    }

    #[test]
    fn sizes_fit_or_say_why_not() {
        let sizes_of = |needs, available| {
            let sizes = sizes(&needs, available).unwrap();
            assert_eq!(sizes.slot_cells % CELLS_STEP, 0);
            (sizes.context_tokens, sizes.slots)
        };
        // A slot has 1024 MB, and 10,300 MB are taken before.
        assert_eq!(sizes_of(needs(), 64_000 * MB), (8192, 8));
        // Half of what is left.
        assert_eq!(sizes_of(needs(), 20_000 * MB), (8192, 4));
        // There must be room to copy a sequence, too.
        assert_eq!(sizes_of(needs(), 14_500 * MB), (8192, 2));
        assert_eq!(sizes_of(needs(), 13_000 * MB), (8192, 1));
        assert_eq!(sizes_of(needs(), 11_500 * MB), (8192, 1));
        let error = sizes(&needs(), 11_000 * MB).unwrap_err();
        assert!(
            error.contains("11324 MB") && error.contains("11000 MB") && error.contains("--context-tokens"),
            "{error}"
        );
        let short = Needs {
            context_tokens: Some(2048),
            ..needs()
        };
        assert_eq!(sizes_of(short, 64_000 * MB), (2048, 8));
        assert_eq!(sizes_of(short, 11_000 * MB), (2048, 1));
        let bounded = |kv_tokens| Needs {
            kv_tokens: Some(kv_tokens),
            ..needs()
        };
        assert_eq!(sizes_of(bounded(30_000), 64_000 * MB), (8192, 3));
        assert_eq!(sizes_of(bounded(u32::MAX), 64_000 * MB), (8192, 8));
        // What the operator wants is done or refused.
        assert!(sizes(&bounded(30_000), 13_000 * MB).is_err());
        let error = sizes(&bounded(100), u64::MAX).unwrap_err();
        assert!(error.contains("--kv-tokens"), "{error}");
        let small = Needs {
            trained_tokens: 1000,
            slots: 1,
            ..needs()
        };
        assert_eq!(
            sizes(&small, 64_000 * MB),
            Ok(Sizes {
                context_tokens: 1000,
                slots: 1,
                slot_cells: 1024
            })
        );
        // Numbers of a hostile file do not overflow.
        assert!(
            sizes(
                &Needs {
                    weights: u64::MAX,
                    kv_token: u64::MAX,
                    ..needs()
                },
                u64::MAX - 1
            )
            .is_err()
        );
    }

    #[test]
    fn system_files_are_read() {
        assert_eq!(meminfo("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 * MB));
        assert_eq!(inactive_file("anon 1\ninactive_file 77\n"), Some(77));
        let cpuinfo = "processor : 0\nphysical id\t: 0\ncore id\t\t: 0\n\nprocessor : 1\nphysical id\t: 0\ncore id\t\t: 0\n\n\
                       processor : 2\nphysical id\t: 0\ncore id\t\t: 1\n";
        assert_eq!(distinct_cores(cpuinfo), 2);
        assert!(available() > 0 && physical_cores() > 0);
    }
}
