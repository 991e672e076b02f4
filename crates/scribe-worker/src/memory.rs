//! Whether a model fits, and how large its KV cache is (the arithmetic is pure).

use std::fs;

/// What llama.cpp needs besides weights and KV cache: scratch for a batch, and the process.
const OVERHEAD_BYTES: u64 = 300 << 20;

/// Most tokens of a request unless told otherwise: a large context that is seldom used takes memory always.
const CONTEXT_TOKENS_DEFAULT: u32 = 8192;

/// Most tokens of the KV cache unless told otherwise.
const KV_TOKENS_DEFAULT: u32 = 32_768;

/// llama.cpp rounds a cache up to this.
const KV_TOKENS_STEP: u32 = 256;

/// What decides on sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of the weights.
    pub weights: u64,
    /// Bytes of keys and values of a token.
    pub kv_token: u64,
    /// Tokens that the model was trained on.
    pub trained_tokens: u32,
    /// Streams at once.
    pub slots: u32,
    /// What the operator wants.
    pub context_tokens: Option<u32>,
    /// What the operator wants.
    pub kv_tokens: Option<u32>,
    /// Copies of the weights that are made: they are stored anew for the processor's instructions.
    pub weights_copies: u64,
}

/// Sizes that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Most tokens of a request.
    pub context_tokens: u32,
    /// Tokens of the KV cache.
    pub kv_tokens: u32,
}

/// Chooses sizes that fit into `available` bytes.
///
/// # Errors
/// What does not fit, and what to do.
pub fn sizes(needs: &Needs, available: u64) -> Result<Sizes, String> {
    let step = |tokens: u32| tokens.div_ceil(KV_TOKENS_STEP).saturating_mul(KV_TOKENS_STEP);
    let context = needs
        .context_tokens
        .unwrap_or(CONTEXT_TOKENS_DEFAULT)
        .min(needs.trained_tokens)
        .max(2);
    let least = step(context);
    let fixed = needs
        .weights
        .saturating_mul(1 + needs.weights_copies)
        .saturating_add(OVERHEAD_BYTES);
    let total = |tokens: u32| fixed.saturating_add(needs.kv_token.saturating_mul(tokens.into()));

    let wanted = match needs.kv_tokens {
        Some(tokens) if tokens < context => {
            return Err(format!(
                "a KV cache of {tokens} tokens cannot hold one request of {context}; raise --kv-tokens or lower \
                 --context-tokens"
            ));
        }
        Some(tokens) => step(tokens),
        None => {
            let half = available.saturating_sub(fixed) / 2 / needs.kv_token.max(1);
            let fits = u32::try_from(half).unwrap_or(u32::MAX) / KV_TOKENS_STEP * KV_TOKENS_STEP;
            let wanted = step(context.saturating_mul(needs.slots)).min(KV_TOKENS_DEFAULT);
            wanted.min(fits).max(least)
        }
    };
    if total(wanted) > available {
        return Err(format!(
            "it needs {} MB of memory ({} MB for weights and their copies, {} MB for a KV cache of {wanted} tokens) and {} MB \
             are free; lower --context-tokens or --kv-tokens, choose a smaller quantisation, or free memory",
            total(wanted) >> 20,
            fixed >> 20,
            (total(wanted) - fixed) >> 20,
            available >> 20,
        ));
    }
    Ok(Sizes {
        context_tokens: context,
        kv_tokens: wanted,
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
        }
    }

    #[test]
    fn sizes_fit_or_say_why_not() {
        let sizes_of = |needs, available| sizes(&needs, available).unwrap();
        let plenty = sizes_of(needs(), 64_000 * MB);
        assert_eq!((plenty.context_tokens, plenty.kv_tokens), (8192, 32_768));
        // 10,300 MB and a KV cache of 1024 MB at least; half of what is left is less than that.
        let little = sizes_of(needs(), 11_500 * MB);
        assert_eq!((little.context_tokens, little.kv_tokens), (8192, 8192));
        assert_eq!(sizes_of(needs(), 13_500 * MB).kv_tokens, 12_800);
        let error = sizes(&needs(), 11_000 * MB).unwrap_err();
        assert!(
            error.contains("11324 MB") && error.contains("11000 MB") && error.contains("--context-tokens"),
            "{error}"
        );
        let short = Needs {
            context_tokens: Some(2048),
            ..needs()
        };
        assert_eq!(sizes_of(short, 64_000 * MB).kv_tokens, 16_384);
        assert!(sizes(&short, 11_000 * MB).is_ok());
        let small = Needs {
            trained_tokens: 1000,
            slots: 1,
            ..needs()
        };
        assert_eq!(
            sizes_of(small, 64_000 * MB),
            Sizes {
                context_tokens: 1000,
                kv_tokens: 1024
            }
        );
        assert!(
            sizes(
                &Needs {
                    kv_tokens: Some(100),
                    ..needs()
                },
                u64::MAX
            )
            .unwrap_err()
            .contains("--kv-tokens")
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
