//! Optimisation (method.md, section 5): `AdamW`, stochastic gradient descent, and the learning rate of each epoch.
//!
//! Rule of this room: what an optimiser remembers can be taken out by name and put back, so that a run goes on from a
//! checkpoint bit for bit.

use tch::{Kind, Tensor};

use crate::methods::values::Schedule;
use crate::methods::{NamedTensors, Parameters};

/// Updates a model's parameters.
pub trait Optimiser {
    /// What it updates.
    fn parameters(&self) -> &Parameters;

    /// One step down a gradient in the layout of the parameters' buffer.
    fn update(&mut self, gradient: &Tensor, lr: f64);

    /// One step down the gradient of `loss`, a differentiable scalar.
    fn step(&mut self, loss: &Tensor, lr: f64) {
        let gradient = self.parameters().gradient(loss);
        self.update(&gradient, lr);
    }

    /// What it remembers, by name.
    fn state(&self) -> NamedTensors;

    /// Puts back what [`Optimiser::state`] gave.
    fn restore(&mut self, state: &NamedTensors) -> Result<(), StateError>;
}

/// An optimiser's state doesn't fit the parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the optimiser's state has no `{name}` of shape {shape:?}")]
pub struct StateError {
    /// The tensor.
    pub name: String,
    /// The shape it should have.
    pub shape: Vec<i64>,
}

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// `AdamW` (Loshchilov and Hutter 2019), with the formula and order of operations of `torch.optim.AdamW`.
#[derive(Debug)]
pub struct AdamW {
    parameters: Parameters,
    weight_decay: f64,
    /// Exponential average of the gradient, in the layout of the parameters' buffer.
    mean: Tensor,
    /// Exponential average of its square.
    square: Tensor,
    steps: u32,
}

impl AdamW {
    /// An optimiser that hasn't made a step.
    pub fn new(parameters: &Parameters, weight_decay: f64) -> Self {
        let buffer = parameters.buffer();
        Self {
            weight_decay,
            mean: buffer.zeros_like(),
            square: buffer.zeros_like(),
            steps: 0,
            parameters: parameters.share(),
        }
    }
}

const STEPS: &str = "step";
const MEAN: &str = "exp_avg";
const SQUARE: &str = "exp_avg_sq";

impl Optimiser for AdamW {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn update(&mut self, gradient: &Tensor, lr: f64) {
        let _no_history = tch::no_grad_guard();
        self.steps += 1;
        let correction = |beta: f64| 1.0 - beta.powf(f64::from(self.steps));
        let (step_size, scale) = (lr / correction(BETA_1), correction(BETA_2).sqrt());

        let mut values = self.parameters.buffer().shallow_clone();
        let _ = values.g_mul_scalar_(1.0 - lr * self.weight_decay);
        let _ = self.mean.lerp_(gradient, 1.0 - BETA_1);
        let _ = self.square.g_mul_scalar_(BETA_2).g_add_(&(gradient.square() * (1.0 - BETA_2)));
        let denominator = (self.square.sqrt() / scale).g_add_scalar_(EPSILON);
        let _ = values.g_sub_(&(&self.mean / denominator * step_size));
    }

    fn state(&self) -> NamedTensors {
        let mut state = parts_of(&self.parameters, &[(MEAN, &self.mean), (SQUARE, &self.square)]);
        // As a 32-bit float like the rest: exact up to 2^24 steps.
        state.insert(STEPS.to_owned(), Tensor::from_slice(&[self.steps as f32]));
        state
    }

    fn restore(&mut self, state: &NamedTensors) -> Result<(), StateError> {
        let steps = of_shape(state, STEPS.to_owned(), vec![1])?;
        restore_parts(&self.parameters, &[(MEAN, &self.mean), (SQUARE, &self.square)], state)?;
        self.steps = steps.to_kind(Kind::Int64).int64_value(&[0]) as u32;
        Ok(())
    }
}

/// Stochastic gradient descent with momentum, with the formula and order of operations of `torch.optim.SGD` without
/// dampening: the weight decay is added to the gradient.
#[derive(Debug)]
pub struct Sgd {
    parameters: Parameters,
    momentum: f64,
    weight_decay: f64,
    /// Decaying sum of the gradients, in the layout of the parameters' buffer.
    velocity: Tensor,
}

impl Sgd {
    /// An optimiser that hasn't made a step.
    pub fn new(parameters: &Parameters, momentum: f64, weight_decay: f64) -> Self {
        let velocity = parameters.buffer().zeros_like();
        Self { parameters: parameters.share(), momentum, weight_decay, velocity }
    }
}

const VELOCITY: &str = "momentum_buffer";

impl Optimiser for Sgd {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn update(&mut self, gradient: &Tensor, lr: f64) {
        let _no_history = tch::no_grad_guard();
        let mut values = self.parameters.buffer().shallow_clone();
        let decayed = gradient + &values * self.weight_decay;
        let _ = self.velocity.g_mul_scalar_(self.momentum).g_add_(&decayed);
        let _ = values.g_sub_(&(&self.velocity * lr));
    }

    fn state(&self) -> NamedTensors {
        parts_of(&self.parameters, &[(VELOCITY, &self.velocity)])
    }

    fn restore(&mut self, state: &NamedTensors) -> Result<(), StateError> {
        restore_parts(&self.parameters, &[(VELOCITY, &self.velocity)], state)
    }
}

/// What an optimiser remembers of each parameter, as `<kind>/<parameter>`.
fn parts_of(parameters: &Parameters, buffers: &[(&str, &Tensor)]) -> NamedTensors {
    let of = |(kind, buffer): &(&str, &Tensor)| {
        let named = parameters.parts_of(buffer).into_iter();
        named.map(|(name, part)| (format!("{kind}/{name}"), part)).collect::<Vec<_>>()
    };
    buffers.iter().flat_map(of).collect()
}

/// Puts back what [`parts_of`] gave.
fn restore_parts(parameters: &Parameters, buffers: &[(&str, &Tensor)], state: &NamedTensors) -> Result<(), StateError> {
    let _no_history = tch::no_grad_guard();
    for (name, mut part) in parts_of(parameters, buffers) {
        part.copy_(of_shape(state, name, part.size())?);
    }
    Ok(())
}

/// The tensor `name` of a state, if it has the shape that it should have.
pub(crate) fn of_shape(state: &NamedTensors, name: String, shape: Vec<i64>) -> Result<&Tensor, StateError> {
    match state.get(&name).filter(|tensor| tensor.size() == shape) {
        Some(tensor) => Ok(tensor),
        None => Err(StateError { name, shape }),
    }
}

/// The learning rate of an epoch, counted from 0: `warmup_lr` first, then half a cosine wave from `lr` towards 0.
pub fn learning_rate(schedule: &Schedule, epoch: u32) -> f64 {
    if epoch < schedule.warmup_epochs {
        return schedule.warmup_lr;
    }
    let progress = f64::from(epoch - schedule.warmup_epochs) / f64::from(schedule.epochs);
    schedule.lr / 2.0 * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn parameters() -> Parameters {
        let tensor = |values: &[f32]| Tensor::from_slice(values);
        let given = NamedTensors::from([("a".to_owned(), tensor(&[1.0, -2.0])), ("b".to_owned(), tensor(&[0.5]))]);
        Parameters::new(&given, Device::Cpu)
    }

    fn loss(parameters: &Parameters) -> Tensor {
        parameters.named().values().map(|value| (value.square() * 1.5 + value.sin()).sum(Kind::Float)).sum()
    }

    fn values(parameters: &Parameters) -> Vec<f32> {
        Vec::try_from(parameters.buffer()).unwrap()
    }

    #[test]
    fn the_first_step_is_the_formulas() {
        let (parameters, lr, decay) = (parameters(), 0.1, 0.5);
        AdamW::new(&parameters, decay).step(&loss(&parameters), lr);
        // With both averages corrected, the first step is the gradient's sign.
        let expected = [1.0 * (1.0 - lr * decay) - lr, -2.0 * (1.0 - lr * decay) + lr, 0.5 * (1.0 - lr * decay) - lr];
        for (value, expected) in values(&parameters).into_iter().zip(expected) {
            assert!((f64::from(value) - expected).abs() < 1e-6, "{value} {expected}");
        }
    }

    #[test]
    fn momentum_adds_up_and_the_decay_is_part_of_the_gradient() {
        // By hand, for the loss x: the gradient is 1 + decay·x.
        let given = NamedTensors::from([("x".to_owned(), Tensor::from_slice(&[2.0_f32]))]);
        let parameters = Parameters::new(&given, Device::Cpu);
        let mut optimiser = Sgd::new(&parameters, 0.5, 0.25);
        let mut step = || {
            optimiser.step(&parameters.named()["x"].sum(Kind::Float), 0.1);
            values(&parameters)[0]
        };
        assert!((step() - (2.0 - 0.1 * 1.5)).abs() < 1e-6);
        assert!((step() - (1.85 - 0.1 * (0.75 + 1.0 + 0.25 * 1.85))).abs() < 1e-6);
    }

    #[test]
    fn restored_it_goes_on_bit_for_bit() {
        let adamw = |parameters: &Parameters| Box::new(AdamW::new(parameters, 0.01)) as Box<dyn Optimiser>;
        let sgd = |parameters: &Parameters| Box::new(Sgd::new(parameters, 0.9, 0.01)) as Box<dyn Optimiser>;
        for new in [adamw, sgd] {
            let straight = parameters();
            let mut optimiser = new(&straight);
            let half = |optimiser: &mut dyn Optimiser, parameters: &Parameters| {
                (0..5).for_each(|_| optimiser.step(&loss(parameters), 0.05));
            };
            half(optimiser.as_mut(), &straight);
            let state = optimiser.state().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
            let resumed = Parameters::new(straight.named(), Device::Cpu);
            half(optimiser.as_mut(), &straight);

            let mut optimiser = new(&resumed);
            optimiser.restore(&state).unwrap();
            half(optimiser.as_mut(), &resumed);
            assert_eq!(values(&resumed), values(&straight));
        }
    }

    #[test]
    fn a_state_of_other_parameters_is_refused() {
        let mut state = AdamW::new(&parameters(), 0.0).state();
        state.insert("exp_avg/b".to_owned(), Tensor::from_slice(&[0.0_f32, 0.0]));
        let error = AdamW::new(&parameters(), 0.0).restore(&state).unwrap_err();
        assert_eq!(error.to_string(), "the optimiser's state has no `exp_avg/b` of shape [1]");
    }

    #[test]
    fn warm_up_comes_first_and_the_cosine_runs_over_all_epochs() {
        let schedule = Schedule { epochs: 10, lr: 0.001, warmup_epochs: 1, warmup_lr: 1e-5, ..Schedule::default() };
        let rates: Vec<f64> = (0..10).map(|epoch| learning_rate(&schedule, epoch)).collect();
        assert_eq!(&rates[..2], [1e-5, 0.001]);
        assert!((rates[2] - 9.755_282_581e-4).abs() < 1e-12, "{}", rates[2]);
        assert!((rates[6] - 0.0005).abs() < 1e-15 && (rates[9] - 9.549_150_281e-5).abs() < 1e-12);
    }
}
