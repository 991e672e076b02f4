use tch::{IndexOp as _, no_grad};

use super::matrix::rounding;
use super::*;
use crate::optimizer::{AdamW, Settings};
use crate::parallel::World;
use crate::scribe::muon::Muon;
use crate::scribe::tokenizer::Tokens;
use crate::train::tests::alone;

const SHAPE: Shape = Shape {
    vocabulary: 64,
    width: 64,
    layers: 2,
    heads: 2,
    kv_heads: 1,
    hidden: 96,
    context: 64,
    rope_base: 10_000.0,
    epsilon: 1e-5,
};

fn network() -> (Network, Stores) {
    tch::manual_seed(3);
    Network::new(SHAPE, Kind::Float).unwrap()
}

fn ids(count: i64) -> Tensor {
    Tensor::randint_low(5, SHAPE.vocabulary, [1, count], (Kind::Int64, Device::Cpu))
}

fn farthest(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn token_by_token_is_as_all_at_once() {
    let _turn = alone();
    let (network, _stores) = network();
    let ids = ids(12);
    let (weights, mut cache) = (network.weights().unwrap(), Cache::new());
    let whole = network.states(&weights, &ids, None, None).unwrap();
    let mut parts = vec![
        network
            .states(&weights, &ids.narrow(1, 0, 5), None, Some(&mut cache))
            .unwrap(),
    ];
    for at in 5..12 {
        parts.push(
            network
                .states(&weights, &ids.narrow(1, at, 1), None, Some(&mut cache))
                .unwrap(),
        );
    }
    assert!(farthest(&whole, &Tensor::cat(&parts, 0)) < 1e-4);
}

#[test]
fn neighbours_are_turned_by_position_and_speed() {
    let _turn = alone();
    let turns = Tensor::view_as_real(&turns(&SHAPE).unwrap());
    assert_eq!(turns.size(), [64, 1, 16, 2]);
    for (position, pair) in [(0, 0), (1, 0), (7, 3), (63, 15)] {
        let angle = position as f64 * 10_000_f64.powf(-2.0 * pair as f64 / 32.0);
        let (cosine, sine) = (
            turns.double_value(&[position, 0, pair, 0]),
            turns.double_value(&[position, 0, pair, 1]),
        );
        assert!((cosine - angle.cos()).abs() < 1e-5 && (sine - angle.sin()).abs() < 1e-5);
    }
}

/// One block in plain loops over f64, written from the definition and not from the code above.
#[test]
fn a_block_is_as_defined() {
    let _turn = alone();
    tch::manual_seed(5);
    let shape = Shape {
        layers: 1,
        width: 8,
        heads: 2,
        kv_heads: 1,
        hidden: 6,
        ..SHAPE
    };
    let (network, _stores) = Network::new(shape, Kind::Float).unwrap();
    no_grad(|| {
        for (_, mut tensor) in network.tensors() {
            let _ = tensor.normal_(0.3, 0.5);
        }
    });
    let ids = Tensor::from_slice(&[7_i64, 9, 8]).unsqueeze(0);
    let got = network.states(&network.weights().unwrap(), &ids, None, None).unwrap();
    let got = network.weights().unwrap().logits(&got).unwrap();

    let tensors: std::collections::HashMap<String, Tensor> = network.tensors().into_iter().collect();
    let matrix = |name: &str| -> Vec<Vec<f64>> {
        let tensor = tensors[name].to_kind(Kind::Double);
        let tensor = if tensor.dim() == 1 { tensor.unsqueeze(0) } else { tensor };
        (0..tensor.size()[0])
            .map(|row| Vec::try_from(tensor.i(row).detach()).unwrap())
            .collect()
    };
    let block = |name: &str| matrix(&format!("blk.0.{name}.weight"));
    let times = |m: &[Vec<f64>], x: &[f64]| -> Vec<f64> {
        m.iter()
            .map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
            .collect()
    };
    let norm = |x: &[f64], gain: &[f64]| -> Vec<f64> {
        let root = (x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64 + shape.epsilon).sqrt();
        x.iter().zip(gain).map(|(v, g)| v / root * g).collect()
    };
    let turn = |x: &mut [f64], position: usize| {
        for pair in 0..x.len() / 2 {
            let angle = position as f64 * shape.rope_base.powf(-2.0 * pair as f64 / x.len() as f64);
            let (a, b) = (x[2 * pair], x[2 * pair + 1]);
            x[2 * pair] = a * angle.cos() - b * angle.sin();
            x[2 * pair + 1] = a * angle.sin() + b * angle.cos();
        }
    };
    let embedding = matrix("token_embd.weight");
    let mut states: Vec<Vec<f64>> = [7, 9, 8].map(|id: usize| embedding[id].clone()).into();
    let normed: Vec<Vec<f64>> = states.iter().map(|x| norm(x, &block("attn_norm")[0])).collect();
    let keys: Vec<Vec<f64>> = (0..3)
        .map(|at| {
            let mut key = times(&block("attn_k"), &normed[at]);
            turn(&mut key, at);
            key
        })
        .collect();
    for at in 0..3 {
        let mut mixed = Vec::new();
        for head in times(&block("attn_q"), &normed[at]).chunks_mut(4) {
            turn(head, at);
            let scores: Vec<f64> = keys[..=at]
                .iter()
                .map(|key| key.iter().zip(&*head).map(|(a, b)| a * b).sum::<f64>() / 2.0)
                .collect();
            let all: f64 = scores.iter().map(|score| score.exp()).sum();
            let mut sum = vec![0.0; 4];
            for (score, x) in scores.iter().zip(&normed) {
                for (out, value) in sum.iter_mut().zip(times(&block("attn_v"), x)) {
                    *out += score.exp() / all * value;
                }
            }
            mixed.extend(sum);
        }
        for (x, change) in states[at].iter_mut().zip(times(&block("attn_output"), &mixed)) {
            *x += change;
        }
    }
    for (at, x) in states.iter_mut().enumerate() {
        let input = norm(x, &block("ffn_norm")[0]);
        let hidden: Vec<f64> = times(&block("ffn_gate"), &input)
            .into_iter()
            .zip(times(&block("ffn_up"), &input))
            .map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
            .collect();
        for (x, change) in x.iter_mut().zip(times(&block("ffn_down"), &hidden)) {
            *x += change;
        }
        let logits = times(&embedding, &norm(x, &matrix("output_norm.weight")[0]));
        let row = i64::try_from(at).unwrap();
        for (id, logit) in (0..).zip(logits) {
            assert!((got.double_value(&[row, id]) - logit).abs() < 1e-3 * logit.abs().max(1.0));
        }
    }
}

#[test]
fn it_copies_before_it_is_trained() {
    let _turn = alone();
    tch::manual_seed(1);
    let shape = Shape {
        vocabulary: 512,
        width: 256,
        heads: 4,
        kv_heads: 2,
        rope_base: 500_000.0,
        context: 128,
        ..SHAPE
    };
    let (network, _stores) = Network::new(shape, Kind::Float).unwrap();
    let list = Tensor::randperm(500, (Kind::Int64, Device::Cpu)).narrow(0, 0, 40);
    let ids = Tensor::cat(&[&list, &list], 0).unsqueeze(0);
    let weights = network.weights().unwrap();
    let states = network.states(&weights, &ids, None, None).unwrap();
    let logits = weights.logits(&states).unwrap();
    // Of all but the token itself, which random states resemble most.
    let others = logits.scatter_value(1, &ids.view([-1, 1]), -1e9);
    let said = others.argmax(-1, false).narrow(0, 40, 39);
    let right = said.eq_tensor(&list.narrow(0, 1, 39)).sum(Kind::Int64).int64_value(&[]);
    assert!(right >= 8, "{right} of 39; chance alone gives none");
}

#[test]
fn padding_changes_nothing() {
    let _turn = alone();
    let (network, _stores) = network();
    let lessons = [10, 6].map(|length: u32| Tokens::new((7..7 + length).collect(), 3));
    let loss = |lessons: &[Tokens]| network.loss(&Batch::new(lessons).unwrap()).unwrap().double_value(&[]);
    assert!((loss(&lessons) - loss(&lessons[..1]) - loss(&lessons[1..])).abs() < 1e-3);
}

#[test]
fn rounded_weights_have_sixteen_levels_a_block_and_are_near() {
    let _turn = alone();
    let weights = Tensor::randn([8, 64], (Kind::Float, Device::Cpu));
    let change = rounding(&weights).unwrap();
    let block = (&weights + &change).narrow(1, 32, 32).i(3);
    let mut levels: Vec<f64> = block.to_kind(Kind::Double).try_into().unwrap();
    levels.sort_by(f64::total_cmp);
    let width = levels[31] - levels[0];
    levels.dedup_by(|a, b| (*a - *b).abs() < 1e-5);
    assert!(levels.len() <= 16 && levels.len() > 4);
    assert!(change.i(3).narrow(0, 32, 32).abs().max().double_value(&[]) <= 0.5 * width / 15.0 + 1e-5);
}

#[test]
fn steps_lower_the_loss_also_with_rounded_weights() {
    let _turn = alone();
    let (mut network, stores) = network();
    let lessons: Vec<Tokens> = (0..4)
        .map(|i| Tokens::new((0..20).map(|at| 5 + (at * (i + 3)) % 50).collect(), 1))
        .collect();
    let batch = Batch::new(&lessons).unwrap();
    let mut muon = Muon::new(&stores.matrices, 0.01, Kind::Float).unwrap();
    let settings = Settings {
        beta1: 0.9,
        beta2: 0.95,
        weight_decay: 0.0,
        clip: 1.0,
    };
    let mut adam = AdamW::new(&stores.others, settings).unwrap();
    let mut losses = Vec::new();
    for step in 1..=30 {
        network.round_weights(step > 20).unwrap();
        let loss = network.loss(&batch).unwrap();
        loss.backward();
        losses.push(loss.double_value(&[]));
        adam.step(&World::alone(), step, 0.003).unwrap();
        muon.step(0.01).unwrap();
    }
    assert!(losses[29] < 0.5 * losses[0], "{losses:?}");
}
