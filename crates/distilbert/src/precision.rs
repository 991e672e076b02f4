//! In which precision, on which device.
//!
//! What the processor has decides which precisions come into question; what a version's golden examples say decides
//! whether one is close enough to fp32. On the CPU int8 comes only with AVX-512 VNNI (FBGEMM's other kernels saturate) and
//! for networks wide enough that it pays, and never without golden examples.

use std::{fmt, fs, str::FromStr};

use tch::Kind;

use crate::{checkpoint::Checkpoint, classifier::Classifier, error::Error, native::Packing, process::cuda_available};

/// The least width of a network at which int8 is faster than bf16 or fp32 on the CPU.
const INT8_DIM_MIN: usize = 512;

/// The most golden examples that are computed to check a precision.
const GOLDEN_MAX: usize = 64;

/// Golden examples computed together.
const GOLDEN_BATCH: usize = 8;

/// Where a network computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The CUDA device with this number.
    Cuda(u16),
}

impl Device {
    pub(crate) fn check(self, precision: Precision) -> Result<(), Error> {
        match (self, precision) {
            (Device::Cpu, Precision::Fp16) => Err(Error::Input(
                "fp16 needs a CUDA device; on the CPU use bf16, int8 or fp32".to_owned(),
            )),
            (Device::Cuda(_), Precision::Int8) => Err(Error::Input(
                "int8 is for the CPU; on CUDA use fp16, bf16 or fp32".to_owned(),
            )),
            (Device::Cuda(index), _) => {
                let count = if cuda_available() { tch::Cuda::device_count() } else { 0 };
                if i64::from(index) < count {
                    Ok(())
                } else {
                    Err(Error::Input(format!(
                        "there is no CUDA device {index} ({count} found): CUDA needs a driver and the libraries of PyTorch 2.11.0 \
                         on LD_LIBRARY_PATH; or use the CPU"
                    )))
                }
            }
            (Device::Cpu, _) => Ok(()),
        }
    }
}

impl From<Device> for tch::Device {
    fn from(device: Device) -> tch::Device {
        match device {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda(index) => tch::Device::Cuda(usize::from(index)),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Device, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("cpu", _) => Ok(Device::Cpu),
            ("cuda", _) => Ok(Device::Cuda(0)),
            (_, Some(Ok(index))) => Ok(Device::Cuda(index)),
            _ => Err(format!("{text:?} is not a device: cpu, cuda or cuda:N")),
        }
    }
}

/// The numbers in which a network computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floating point: the reference.
    Fp32,
    /// bfloat16.
    Bf16,
    /// 16-bit floating point, on CUDA.
    Fp16,
    /// 8-bit weights and activations in the linear layers, on the CPU.
    Int8,
}

impl Precision {
    /// How far a class's probability may be from fp32's on any golden example.
    pub const fn tolerance(self) -> f64 {
        match self {
            Precision::Fp32 => 0.0,
            Precision::Fp16 => 0.01,
            Precision::Bf16 | Precision::Int8 => 0.02,
        }
    }

    /// What comes into question for a network of this width, the fastest first. The last is always fp32.
    pub fn candidates(device: Device, processor: &Processor, dim: usize) -> Vec<Precision> {
        let mut all = Vec::new();
        match device {
            // Every CUDA device since 2016 is fast in fp16, only those since 2020 in bf16, whose range is wider.
            Device::Cuda(_) => all.extend([Precision::Fp16, Precision::Bf16]),
            Device::Cpu => {
                let int8 = processor.avx512_vnni && dim >= INT8_DIM_MIN;
                // With tile registers bf16 runs several times faster and leaves int8 nothing to win.
                if int8 && !processor.amx_bf16 {
                    all.push(Precision::Int8);
                }
                if processor.amx_bf16 || processor.avx512_bf16 {
                    all.push(Precision::Bf16);
                }
            }
        }
        all.push(Precision::Fp32);
        all
    }

    /// The kind of the residual stream.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Precision::Fp32 | Precision::Int8 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
            Precision::Fp16 => Kind::Half,
        }
    }

    pub(crate) fn packing(self, device: Device) -> Packing {
        match (device, self) {
            (Device::Cuda(_), _) => Packing::Plain,
            (Device::Cpu, Precision::Int8) => Packing::Int8,
            (Device::Cpu, _) => Packing::OneDnn,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Fp32 => "fp32",
            Precision::Bf16 => "bf16",
            Precision::Fp16 => "fp16",
            Precision::Int8 => "int8",
        })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Precision, String> {
        [Precision::Fp32, Precision::Bf16, Precision::Fp16, Precision::Int8]
            .into_iter()
            .find(|precision| precision.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a precision: fp32, bf16, fp16 or int8"))
    }
}

/// What the processor has that matters to the choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// Its name, for records of measurements.
    pub name: String,
    /// Tile registers for bf16.
    pub amx_bf16: bool,
    /// bf16 dot products.
    pub avx512_bf16: bool,
    /// 8-bit dot products.
    pub avx512_vnni: bool,
}

impl Processor {
    /// This machine's.
    pub fn detect() -> Processor {
        fs::read_to_string("/proc/cpuinfo")
            .map(|text| Processor::parse(&text))
            .unwrap_or_default()
    }

    /// From the text of `/proc/cpuinfo`, which lists what the kernel lets programs use.
    fn parse(cpuinfo: &str) -> Processor {
        let value = |name: &str| {
            let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
            fields
                .find(|(field, _)| field.trim() == name)
                .map_or("", |(_, value)| value.trim())
        };
        let flags: Vec<_> = value("flags").split_whitespace().collect();
        Processor {
            name: value("model name").to_owned(),
            amx_bf16: flags.contains(&"amx_bf16"),
            avx512_bf16: flags.contains(&"avx512_bf16"),
            avx512_vnni: flags.contains(&"avx512_vnni"),
        }
    }
}

/// A loaded classifier and why it has the precision that it has.
#[derive(Debug)]
pub struct Choice {
    /// Ready to compute.
    pub classifier: Classifier,
    /// For logs and status.
    pub reason: String,
}

/// Loads a classifier in the precision that is `forced`, or in the fastest one whose answers to the golden examples are within
/// [`Precision::tolerance`] of fp32's.
pub fn choose_precision(
    checkpoint: &Checkpoint,
    device: Device,
    forced: Option<Precision>,
    golden: &[impl AsRef<str>],
) -> Result<Choice, Error> {
    if let Some(precision) = forced {
        let classifier = Classifier::load(checkpoint, device, precision)?;
        return Ok(Choice {
            classifier,
            reason: "set by the operator".to_owned(),
        });
    }
    let golden = golden
        .iter()
        .take(GOLDEN_MAX)
        .map(|text| Ok(checkpoint.tokenizer().encode(text.as_ref())?.ids))
        .collect::<Result<Vec<_>, Error>>()?;
    let processor = Processor::detect();
    let mut passed_over = Vec::new();
    let mut exact = None;
    for precision in Precision::candidates(device, &processor, checkpoint.config().dim) {
        match precision {
            Precision::Fp32 => break,
            Precision::Int8 if golden.is_empty() => {
                passed_over.push("int8: no golden examples to check it by".to_owned());
                continue;
            }
            _ => {}
        }
        let classifier = Classifier::load(checkpoint, device, precision)?;
        if golden.is_empty() {
            return Ok(Choice {
                classifier,
                reason: reason(&format!("{precision}, unchecked"), &passed_over),
            });
        }
        if exact.is_none() {
            let reference = Classifier::load(checkpoint, device, Precision::Fp32)?;
            let wanted = probabilities(&reference, &golden)?;
            exact = Some((reference, wanted));
        }
        let wanted = exact.as_ref().map_or(&[][..], |(_, wanted)| wanted);
        let drift = drift(wanted, &probabilities(&classifier, &golden)?);
        let verdict = format!(
            "{precision}: within {drift:.4} of fp32 on {} golden examples",
            golden.len()
        );
        if drift <= precision.tolerance() {
            return Ok(Choice {
                classifier,
                reason: reason(&verdict, &passed_over),
            });
        }
        passed_over.push(format!("{verdict}, more than {}", precision.tolerance()));
    }
    let classifier = match exact {
        Some((reference, _)) => reference,
        None => Classifier::load(checkpoint, device, Precision::Fp32)?,
    };
    Ok(Choice {
        classifier,
        reason: reason("fp32", &passed_over),
    })
}

fn reason(verdict: &str, passed_over: &[String]) -> String {
    match passed_over {
        [] => verdict.to_owned(),
        _ => format!("{verdict} (passed over: {})", passed_over.join("; ")),
    }
}

fn probabilities(classifier: &Classifier, golden: &[Vec<u32>]) -> Result<Vec<Vec<f64>>, Error> {
    let mut all = Vec::with_capacity(golden.len());
    for batch in golden.chunks(GOLDEN_BATCH) {
        let batch: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
        all.extend(classifier.logits(&batch)?.iter().map(|logits| softmax(logits)));
    }
    Ok(all)
}

/// The probability of each class. Equal shares where a logit is not finite would hide a fault, so NaN stays NaN.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits
        .iter()
        .map(|&logit| (f64::from(logit) - f64::from(most)).exp())
        .collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The largest difference of a probability; infinite where one is not a number.
fn drift(wanted: &[Vec<f64>], got: &[Vec<f64>]) -> f64 {
    let differences = wanted
        .iter()
        .flatten()
        .zip(got.iter().flatten())
        .map(|(a, b)| (a - b).abs());
    differences.fold(
        0.0,
        |most, d| if d.is_nan() { f64::INFINITY } else { f64::max(most, d) },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_decides_what_comes_into_question() {
        use Precision::{Bf16, Fp16, Fp32, Int8};
        let zen4 =
            Processor::parse("model name\t: AMD EPYC\nflags\t\t: fpu avx512_bf16 avx512_vnni\nflags\t\t: none\n");
        assert_eq!(
            (zen4.name.as_str(), zen4.avx512_bf16, zen4.amx_bf16),
            ("AMD EPYC", true, false)
        );
        let amx = Processor {
            amx_bf16: true,
            ..zen4.clone()
        };
        let old = Processor::parse("flags : avx2");
        assert_eq!(Precision::candidates(Device::Cpu, &zen4, 768), [Int8, Bf16, Fp32]);
        assert_eq!(Precision::candidates(Device::Cpu, &zen4, 128), [Bf16, Fp32]);
        assert_eq!(Precision::candidates(Device::Cpu, &amx, 768), [Bf16, Fp32]);
        assert_eq!(Precision::candidates(Device::Cpu, &old, 768), [Fp32]);
        assert_eq!(Precision::candidates(Device::Cuda(0), &old, 768), [Fp16, Bf16, Fp32]);
    }

    #[test]
    fn drift_counts_values_that_are_not_numbers_as_infinite() {
        assert_eq!(drift(&[vec![0.5, 0.5]], &[vec![0.4, 0.6]]), 0.5 - 0.4);
        assert_eq!(drift(&[vec![0.5, 0.5]], &[softmax(&[f32::NAN, 1.0])]), f64::INFINITY);
        assert_eq!(softmax(&[1000.0, 1000.0]), [0.5, 0.5]);
    }

    #[test]
    fn names_parse_back() {
        for precision in [Precision::Fp32, Precision::Bf16, Precision::Fp16, Precision::Int8] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert!("cuda:x".parse::<Device>().is_err() && "fp8".parse::<Precision>().is_err());
    }
}
