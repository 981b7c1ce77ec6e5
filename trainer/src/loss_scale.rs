//! Loss scaling for training in half precision (Micikevicius et al. 2018), with the rules and numbers of
//! `torch.amp.GradScaler`.
//!
//! Half precision has no numbers below 6·10⁻⁸, where many gradients lie. So the gradient is taken of the loss times a scale,
//! and divided by it afterwards. A scale that is too large shows in gradients that aren't finite: the step is left out, and
//! the scale halved. After many good steps it's doubled.

use tch::Tensor;

use crate::methods::{NamedTensors, Parameters};
use crate::optimiser::{Optimiser, StateError, of_shape};

const INITIAL_SCALE: f32 = 65536.0;
const GROWTH: f32 = 2.0;
const BACKOFF: f32 = 0.5;
/// Good steps in a row after which the scale grows.
const GROWTH_INTERVAL: u32 = 2000;
/// Below this no scale makes a gradient overflow that is of any use. `GradScaler` would go on without end, leaving out every
/// step; here the gradient is then applied as it is, so that training fails as it does in other precisions.
const LOWEST_SCALE: f32 = 1.0 / 65536.0;

/// An optimiser that gets its gradients by way of a scaled loss.
pub struct LossScaling {
    optimiser: Box<dyn Optimiser>,
    /// A power of two: scaling changes no digit of a gradient.
    scale: f32,
    /// Since the scale last changed, or a step was left out.
    good_steps: u32,
}

impl LossScaling {
    /// Puts the scaling before an optimiser.
    pub fn new(optimiser: Box<dyn Optimiser>) -> Self {
        Self { optimiser, scale: INITIAL_SCALE, good_steps: 0 }
    }
}

const SCALE: &str = "loss_scale";
const GOOD_STEPS: &str = "good_steps";

impl Optimiser for LossScaling {
    fn parameters(&self) -> &Parameters {
        self.optimiser.parameters()
    }

    fn step(&mut self, loss: &Tensor, lr: f64) {
        let scale = f64::from(self.scale);
        let scaled = self.parameters().gradient(&(loss * scale));
        let _no_history = tch::no_grad_guard();
        let is_good = scaled.isfinite().all().int64_value(&[]) != 0;
        if is_good || self.scale < LOWEST_SCALE {
            self.optimiser.update(&(scaled / scale), lr);
        }
        if !is_good {
            self.scale *= BACKOFF;
            self.good_steps = 0;
        } else if self.good_steps + 1 < GROWTH_INTERVAL {
            self.good_steps += 1;
        } else {
            let grown = self.scale * GROWTH;
            self.scale = if grown.is_finite() { grown } else { self.scale };
            self.good_steps = 0;
        }
    }

    /// The gradient is one that isn't scaled.
    fn update(&mut self, gradient: &Tensor, lr: f64) {
        self.optimiser.update(gradient, lr);
    }

    fn state(&self) -> NamedTensors {
        let mut state = self.optimiser.state();
        for (name, value) in [(SCALE, self.scale), (GOOD_STEPS, self.good_steps as f32)] {
            state.insert(name.to_owned(), Tensor::from_slice(&[value]));
        }
        state
    }

    fn restore(&mut self, state: &NamedTensors) -> Result<(), StateError> {
        self.optimiser.restore(state)?;
        let get = |name: &str| of_shape(state, name.to_owned(), vec![1]).map(|tensor| tensor.double_value(&[0]));
        (self.scale, self.good_steps) = (get(SCALE)? as f32, get(GOOD_STEPS)? as u32);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimiser::AdamW;
    use tch::{Device, Kind};

    fn parameters() -> Parameters {
        Parameters::new(&NamedTensors::from([("a".to_owned(), Tensor::from_slice(&[1.0_f32, -2.0]))]), Device::Cpu)
    }

    fn values(parameters: &Parameters) -> Vec<f32> {
        Vec::try_from(parameters.buffer()).unwrap()
    }

    fn scaling(parameters: &Parameters) -> LossScaling {
        LossScaling::new(Box::new(AdamW::new(parameters, 0.01)))
    }

    /// A loss whose gradient passes through half precision and is `size` there before scaling.
    fn loss(parameters: &Parameters, size: f64) -> Tensor {
        parameters.named()["a"].to_kind(Kind::Half).to_kind(Kind::Float).sum(Kind::Float) * size
    }

    #[test]
    fn a_good_step_is_the_optimisers_own() {
        let (scaled, plain) = (parameters(), parameters());
        let (mut with, mut without) = (scaling(&scaled), AdamW::new(&plain, 0.01));
        for _ in 0..3 {
            with.step(&loss(&scaled, 0.5), 0.1);
            without.step(&loss(&plain, 0.5), 0.1);
        }
        assert_eq!(values(&scaled), values(&plain));
        assert_eq!((with.scale, with.good_steps), (65536.0, 3));
    }

    #[test]
    fn a_gradient_that_half_precision_does_not_hold_is_kept() {
        let gradient = |parameters: &Parameters, scale: f64| {
            let scaled = parameters.gradient(&(loss(parameters, 1.0) * 1e-9 * scale)) / scale;
            Vec::<f32>::try_from(scaled).unwrap()
        };
        let parameters = parameters();
        assert_eq!(gradient(&parameters, 1.0), [0.0, 0.0]);
        let kept = gradient(&parameters, f64::from(INITIAL_SCALE));
        assert!(kept.iter().all(|value| (value / 1e-9 - 1.0).abs() < 1e-3), "{kept:?}");
    }

    #[test]
    fn an_overflowing_step_is_left_out_and_halves_the_scale() {
        let parameters = parameters();
        let mut optimiser = scaling(&parameters);
        // 4 · 65536 is more than half precision holds, and so are 4 · 32768 and 4 · 16384; 4 · 8192 is not.
        for (halved, good) in [(32768.0, 0), (16384.0, 0), (8192.0, 0)] {
            optimiser.step(&loss(&parameters, 4.0), 0.1);
            assert_eq!((optimiser.scale, optimiser.good_steps), (halved, good));
            assert_eq!(values(&parameters), [1.0, -2.0]);
        }
        optimiser.step(&loss(&parameters, 4.0), 0.1);
        assert_eq!((optimiser.scale, optimiser.good_steps), (8192.0, 1));
        assert_ne!(values(&parameters), [1.0, -2.0]);
        assert_eq!(Vec::<f32>::try_from(&optimiser.state()["step"]).unwrap(), [1.0]);
    }

    #[test]
    fn many_good_steps_double_the_scale() {
        let parameters = parameters();
        let mut optimiser = scaling(&parameters);
        optimiser.good_steps = GROWTH_INTERVAL - 2;
        optimiser.step(&loss(&parameters, 0.1), 0.1);
        assert_eq!((optimiser.scale, optimiser.good_steps), (65536.0, GROWTH_INTERVAL - 1));
        optimiser.step(&loss(&parameters, 0.1), 0.1);
        assert_eq!((optimiser.scale, optimiser.good_steps), (131_072.0, 0));
    }

    #[test]
    fn a_gradient_that_no_scale_makes_finite_is_applied_at_last() {
        let parameters = parameters();
        let mut optimiser = scaling(&parameters);
        for _ in 0..=33 {
            assert_eq!(values(&parameters), [1.0, -2.0]);
            optimiser.step(&loss(&parameters, f64::INFINITY), 0.1);
        }
        assert!(values(&parameters).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn restored_it_goes_on_with_the_same_scale() {
        let parameters = parameters();
        let mut optimiser = scaling(&parameters);
        optimiser.step(&loss(&parameters, 4.0), 0.1);
        optimiser.step(&loss(&parameters, 0.1), 0.1);
        let mut restored = scaling(&parameters);
        restored.restore(&optimiser.state()).unwrap();
        assert_eq!((restored.scale, restored.good_steps), (32768.0, 1));
        assert_eq!(restored.state(), optimiser.state());

        let mut state = optimiser.state();
        state.remove("loss_scale");
        let error = restored.restore(&state).unwrap_err();
        assert_eq!(error.to_string(), "the optimiser's state has no `loss_scale` of shape [1]");
    }
}
