//! Trainable parameters: their names, shapes and first values, and where they are kept while they are trained.

use std::collections::BTreeMap;

use promptfield_core::input::nearest;
use tch::{Device, Kind, Tensor};

use crate::draws::Draws;

/// Tensors by name.
pub type NamedTensors = BTreeMap<String, Tensor>;

/// Given parameters aren't those of the method.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// One is not there.
    #[error("the parameter `{name}` {shape:?} is missing")]
    Missing {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<i64>,
    },
    /// One has another shape.
    #[error("the parameter `{name}` is {found:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The shape that was found.
        found: Vec<i64>,
        /// The shape that follows from the weights and the hyper-parameters.
        expected: Vec<i64>,
    },
    /// One too many.
    #[error("the parameter `{name}` is not one of the method's{}", .nearest.as_ref().map_or_else(String::new, |name| format!(" (did you mean `{name}`?)")))]
    Unknown {
        /// Its name.
        name: String,
        /// The parameter that may have been meant.
        nearest: Option<String>,
    },
}

/// A parameter of a method before it has values.
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) shape: Vec<i64>,
    pub(super) initial: Initial,
}

impl Parameter {
    pub(super) fn new(name: impl Into<String>, shape: &[i64], initial: Initial) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), initial }
    }
}

/// A parameter's first values.
pub(super) enum Initial {
    Zeros,
    /// Normal with mean 0.
    Normal {
        deviation: f64,
    },
    /// Uniform from −bound to bound.
    Uniform {
        bound: f64,
    },
    /// The same values as an earlier parameter.
    CopyOf(String),
    /// The values of a tensor of the same shape.
    Given(Tensor),
}

impl Initial {
    /// Kaiming-uniform with a = √5: bound √(6 / ((1 + a²)·fan-in)).
    pub(super) fn kaiming_uniform(fan_in: i64) -> Self {
        Self::Uniform { bound: (fan_in as f64).sqrt().recip() }
    }
}

/// Makes the first values. Each parameter has a stream of its own, so that none depends on which others there are.
pub(super) fn draw(parameters: &[Parameter], seed: u64) -> NamedTensors {
    let mut drawn = NamedTensors::new();
    for Parameter { name, shape, initial } in parameters {
        let mut draws = Draws::new(&format!("initial value of {name}"), seed, "", &[]);
        let mut numbers = |draw: &dyn Fn(&mut Draws) -> f64| {
            let values: Vec<f32> = (0..shape.iter().product()).map(|_: i64| draw(&mut draws) as f32).collect();
            Tensor::from_slice(&values).view(shape.as_slice())
        };
        let values = match initial {
            Initial::Zeros => Tensor::zeros(shape.as_slice(), (Kind::Float, Device::Cpu)),
            Initial::Normal { deviation } => numbers(&|draws| draws.normal() * deviation),
            Initial::Uniform { bound } => numbers(&|draws| draws.between(-bound, *bound)),
            Initial::CopyOf(other) => drawn[other].copy(),
            Initial::Given(tensor) => tensor.to_device(Device::Cpu).to_kind(Kind::Float).copy(),
        };
        drawn.insert(name.clone(), values);
    }
    drawn
}

/// Whether `given` are exactly the parameters that are wanted.
pub(super) fn check_names_and_shapes(wanted: &[Parameter], given: &NamedTensors) -> Result<(), ParameterError> {
    for name in given.keys() {
        let names = || wanted.iter().map(|parameter| parameter.name.as_str());
        if !names().any(|wanted| wanted == name) {
            let nearest = nearest(name, names()).map(str::to_owned);
            return Err(ParameterError::Unknown { name: name.clone(), nearest });
        }
    }
    for Parameter { name, shape, .. } in wanted {
        match given.get(name).map(Tensor::size) {
            None => return Err(ParameterError::Missing { name: name.clone(), shape: shape.clone() }),
            Some(found) if found != *shape => {
                return Err(ParameterError::Shape { name: name.clone(), found, expected: shape.clone() });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The parameters of a model: one buffer, of which the named tensors are parts. An optimiser updates the buffer in a handful of
/// operations, however many parameters there are.
#[derive(Debug)]
pub struct Parameters {
    buffer: Tensor,
    named: NamedTensors,
}

impl Parameters {
    /// Copies the values, as 32-bit floats.
    pub(crate) fn new(values: &NamedTensors, device: Device) -> Self {
        let _no_history = tch::no_grad_guard();
        let flat: Vec<Tensor> = values.values().map(|value| value.to_kind(Kind::Float).reshape(-1)).collect();
        let buffer = if flat.is_empty() { Tensor::zeros(0, (Kind::Float, device)) } else { Tensor::cat(&flat, 0) };
        let buffer = buffer.to_device(device);
        let named = parts(&buffer, values);
        let named = named.into_iter().map(|(name, part)| (name, part.set_requires_grad(true))).collect();
        Self { buffer, named }
    }

    /// The parameter `name`. It must be one of the method's.
    pub(super) fn get(&self, name: &str) -> &Tensor {
        self.named.get(name).unwrap_or_else(|| panic!("`{name}` was checked when the method was made"))
    }

    /// The parameters by name; they change with every step.
    pub const fn named(&self) -> &NamedTensors {
        &self.named
    }

    /// All parameters' values, one after the other in the order of their names. Writing here is training.
    pub(crate) const fn buffer(&self) -> &Tensor {
        &self.buffer
    }

    /// The parts of a buffer that is laid out like this one's, by the parameters' names.
    pub(crate) fn parts_of(&self, buffer: &Tensor) -> NamedTensors {
        parts(buffer, &self.named)
    }

    /// The gradient of `loss` in the layout of the buffer; zero for a parameter that takes no part in it.
    pub(crate) fn gradient(&self, loss: &Tensor) -> Tensor {
        if self.named.is_empty() {
            return self.buffer.zeros_like();
        }
        let inputs: Vec<&Tensor> = self.named.values().collect();
        let gradients = Tensor::run_backward(&[loss], &inputs, false, false);
        let flat = |(gradient, input): (Tensor, &&Tensor)| {
            if gradient.defined() { gradient.reshape(-1) } else { input.zeros_like().reshape(-1) }
        };
        Tensor::cat(&gradients.into_iter().zip(&inputs).map(flat).collect::<Vec<_>>(), 0)
    }

    /// A second set of handles to the same values.
    pub(crate) fn share(&self) -> Self {
        let named = self.named.iter().map(|(name, part)| (name.clone(), part.shallow_clone())).collect();
        Self { buffer: self.buffer.shallow_clone(), named }
    }
}

/// `buffer` cut into tensors with the names and shapes of `like`.
fn parts(buffer: &Tensor, like: &NamedTensors) -> NamedTensors {
    let mut start = 0;
    let part = |(name, like): (&String, &Tensor)| {
        let length = like.numel() as i64;
        // Detached, so that it is a tensor in its own right for gradients.
        let part = buffer.narrow(0, start, length).view(like.size().as_slice()).detach();
        start += length;
        (name.clone(), part)
    };
    like.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.reshape(-1)).unwrap()
    }

    #[test]
    fn first_values_follow_their_distribution_and_the_seed() {
        let parameters = [
            Parameter::new("normal", &[50, 40], Initial::Normal { deviation: 0.02 }),
            Parameter::new("uniform", &[50, 16], Initial::kaiming_uniform(16)),
            Parameter::new("copy", &[50, 16], Initial::CopyOf("uniform".to_owned())),
            Parameter::new("zeros", &[3], Initial::Zeros),
            Parameter::new("given", &[2], Initial::Given(Tensor::from_slice(&[1.5_f64, -2.0]))),
        ];
        let drawn = draw(&parameters, 1);
        let deviation = f64::try_from(drawn["normal"].std(true)).unwrap();
        assert!((0.019..0.021).contains(&deviation), "{deviation}");
        let largest = f64::try_from(drawn["uniform"].abs().max()).unwrap();
        assert!((0.24..0.25).contains(&largest), "{largest}");
        assert_eq!(values(&drawn["copy"]), values(&drawn["uniform"]));
        assert_eq!(values(&drawn["zeros"]), [0.0; 3]);
        assert_eq!(values(&drawn["given"]), [1.5, -2.0]);
        assert_eq!(values(&drawn["normal"]), values(&draw(&parameters[..1], 1)["normal"]));
        assert_ne!(values(&drawn["normal"]), values(&draw(&parameters, 2)["normal"]));
    }

    #[test]
    fn the_first_difference_is_named() {
        let wanted = [Parameter::new("rep_tokens", &[2, 3], Initial::Zeros)];
        let given = |name: &str, shape: &[i64]| {
            NamedTensors::from([(name.to_owned(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)))])
        };
        let error = |given: &NamedTensors| check_names_and_shapes(&wanted, given).unwrap_err().to_string();
        assert_eq!(error(&NamedTensors::new()), "the parameter `rep_tokens` [2, 3] is missing");
        assert_eq!(error(&given("rep_tokens", &[3])), "the parameter `rep_tokens` is [3], expected [2, 3]");
        assert_eq!(
            error(&given("rep_token", &[2, 3])),
            "the parameter `rep_token` is not one of the method's (did you mean `rep_tokens`?)"
        );
        assert_eq!(check_names_and_shapes(&wanted, &given("rep_tokens", &[2, 3])), Ok(()));
    }

    #[test]
    fn the_named_tensors_are_the_buffer() {
        let given = NamedTensors::from([
            ("a".to_owned(), Tensor::from_slice(&[1.0_f32, 2.0])),
            ("b".to_owned(), Tensor::from_slice(&[3.0_f32, 4.0]).view([1, 2])),
        ]);
        let parameters = Parameters::new(&given, Device::Cpu);
        let loss = (parameters.get("b") * 3.0).sum(Kind::Float);
        assert_eq!(values(&parameters.gradient(&loss)), [0.0, 0.0, 3.0, 3.0]);
        let _ = parameters.buffer().shallow_clone().fill_(7.0);
        assert_eq!(values(parameters.get("b")), [7.0, 7.0]);
        assert_eq!(values(&given["b"]), [3.0, 4.0]);
    }
}
