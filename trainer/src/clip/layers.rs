//! The pre-LN residual attention block that both of CLIP's towers are made of (method.md, section 1), frozen.
//!
//! In mixed precision, products and attention take their operands in half precision and give results in it; layer norms and
//! the residual stream are in single precision, like everything outside the block. This is what `torch.autocast` does, done by
//! hand so that it is the same on every device.
//!
//! Shapes: N sequences, S positions, W width.

use promptfield_core::job::backbone::Activation;
use tch::{Device, Kind, Tensor};

use super::attention;
use super::texts::Texts;
use super::weights::Weights;
use crate::working;

/// The steepness of `QuickGELU`: x·σ(1.702x).
const QUICK_GELU: f64 = 1.702;

/// Takes the tensors of one part of a CLIP out of a weights file and puts them on a device.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a mut Weights,
    pub(super) device: Device,
    /// What products and attention are computed in.
    pub(super) kind: Kind,
    pub(super) activation: Activation,
}

impl Loader<'_> {
    /// As 32-bit floats.
    pub(super) fn tensor(&mut self, name: &str) -> Tensor {
        self.weights.take(name).to_device(self.device).to_kind(Kind::Float)
    }

    /// In the kind that products are computed in.
    pub(super) fn operand(&mut self, name: &str) -> Tensor {
        self.weights.take(name).to_device(self.device).to_kind(self.kind)
    }

    pub(super) fn layer_norm(&mut self, name: &str) -> LayerNorm {
        LayerNorm { weight: self.tensor(&format!("{name}.weight")), bias: self.tensor(&format!("{name}.bias")) }
    }

    fn linear(&mut self, name: &str) -> Linear {
        Linear { weight: self.operand(&format!("{name}.weight")), bias: self.operand(&format!("{name}.bias")) }
    }

    pub(super) fn blocks(&mut self, prefix: &str, layers: usize, head_width: i64) -> Vec<Block> {
        (0..layers).map(|layer| self.block(&format!("{prefix}.{layer}"), head_width)).collect()
    }

    fn block(&mut self, name: &str, head_width: i64) -> Block {
        // x·σ(1.702x) = silu(1.702x) / 1.702, one fused operation. The factor before it goes into the small tensors, the one
        // behind it into the next product: the matrices stay as they are, in the file's mapping where they can.
        let factor = match self.activation {
            Activation::QuickGelu => QUICK_GELU,
            Activation::Gelu => 1.0,
        };
        let ln_2 = self.layer_norm(&format!("{name}.ln_2"));
        let mlp_in_bias = self.tensor(&format!("{name}.mlp.c_fc.bias")) * factor;
        Block {
            head_width,
            activation: self.activation,
            ln_1: self.layer_norm(&format!("{name}.ln_1")),
            in_proj: Linear {
                weight: self.operand(&format!("{name}.attn.in_proj_weight")),
                bias: self.operand(&format!("{name}.attn.in_proj_bias")),
            },
            out_proj: self.linear(&format!("{name}.attn.out_proj")),
            ln_2: LayerNorm { weight: ln_2.weight * factor, bias: ln_2.bias * factor },
            mlp_in: Linear {
                weight: self.operand(&format!("{name}.mlp.c_fc.weight")),
                bias: mlp_in_bias.to_kind(self.kind),
            },
            mlp_out: self.linear(&format!("{name}.mlp.c_proj")),
        }
    }
}

/// Layer normalisation over the last dimension, eps 1e-5.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Normalises `x` [.., W].
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), 1e-5, true)
    }
}

#[derive(Debug)]
struct Linear {
    /// [out, in].
    weight: Tensor,
    /// [out].
    bias: Tensor,
}

impl Linear {
    fn forward(&self, x: &Tensor) -> Tensor {
        linear(x, &self.weight, &self.bias)
    }

    /// `factor`·W·x + b, for `x` [N, S, in].
    fn forward_scaled(&self, x: &Tensor, factor: f64) -> Tensor {
        in_kind(self.weight.kind(), [x, &self.weight, &self.bias], |[x, weight, bias]| {
            let (sequences, positions, rows) = (x.size()[0], x.size()[1], x.size()[0] * x.size()[1]);
            let bias = bias.expand([1, rows, -1], false);
            let product = bias.baddbmm(&x.reshape([1, rows, -1]), &weight.tr().unsqueeze(0), 1.0, factor);
            product.view([sequences, positions, -1])
        })
    }

    /// The layer's outputs from `start` on, `length` of them.
    fn forward_part(&self, x: &Tensor, start: i64, length: i64) -> Tensor {
        linear(x, &self.weight.narrow(0, start, length), &self.bias.narrow(0, start, length))
    }
}

fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    in_kind(weight.kind(), [x, weight, bias], |[x, weight, bias]| x.linear(weight, Some(bias)))
}

/// `operation` on operands that are rounded to a kind first, with its result in that kind.
///
/// Where a CPU has no matrix unit for half precision, libtorch's products in it take 2 to 25 times as long as in single
/// precision. So on such a CPU the rounded operands are widened again, and the result is rounded: what hardware gives that
/// multiplies in half precision and sums in single precision.
pub(super) fn in_kind<const N: usize>(
    kind: Kind,
    operands: [&Tensor; N],
    operation: impl FnOnce([&Tensor; N]) -> Tensor,
) -> Tensor {
    let rounded = operands.map(|operand| operand.to_kind(kind));
    if kind == Kind::Float || rounded[0].device() != Device::Cpu || super::multiplies_natively(kind) {
        return operation(rounded.each_ref());
    }
    let widened = rounded.map(|operand| operand.to_kind(Kind::Float));
    operation(widened.each_ref()).to_kind(kind)
}

/// How activations are laid out: which positions look at which, and which are read of the last layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sequences<'a> {
    /// [N, S, W]: a sequence's positions all look at each other, and the first `read` of them are read.
    Images {
        /// Positions that are read.
        read: i64,
    },
    /// [1, rows, W]: texts, whose end tokens are read.
    Texts(&'a Texts),
}

/// A residual attention block.
#[derive(Debug)]
pub(crate) struct Block {
    head_width: i64,
    activation: Activation,
    ln_1: LayerNorm,
    in_proj: Linear,
    out_proj: Linear,
    /// With `QuickGELU` times 1.702, like the bias of `mlp_in`.
    ln_2: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
}

/// What a block makes of a sequence.
#[derive(Debug)]
pub(crate) struct BlockOutput {
    /// What the attention adds to the residual stream [N, rows, W], in single precision like the stream.
    pub(crate) attention: Tensor,
    /// The residual stream after the block [N, rows, W].
    pub(crate) residual: Tensor,
}

impl Block {
    /// The kinds of the matrices.
    #[cfg(test)]
    pub(super) fn kinds(&self) -> [Kind; 4] {
        [&self.in_proj, &self.out_proj, &self.mlp_in, &self.mlp_out].map(|linear| linear.weight.kind())
    }

    /// Queries, keys and values [N, S, 3W] of `x` [N, S, W].
    pub(crate) fn project(&self, x: &Tensor) -> Tensor {
        self.in_proj.forward(&self.ln_1.forward(x))
    }

    /// `x += attn(ln_1(x)); x += mlp(ln_2(x))`.
    pub(crate) fn forward(&self, x: &Tensor, sequences: Sequences) -> BlockOutput {
        self.forward_projected(x, &self.project(x), sequences)
    }

    /// [`Block::forward`] with what [`Block::project`] makes of `x`.
    pub(crate) fn forward_projected(&self, x: &Tensor, projected: &Tensor, sequences: Sequences) -> BlockOutput {
        let mixed = match sequences {
            Sequences::Images { .. } => attention::within(projected, self.head_width),
            Sequences::Texts(texts) => attention::within_texts(projected, texts, self.head_width),
        };
        self.add(x, &mixed)
    }

    /// [`Block::forward`] for the rows that are read of the last layer. The others take part as keys and values.
    pub(crate) fn forward_read(&self, x: &Tensor, sequences: Sequences) -> BlockOutput {
        let (normed, width) = (self.ln_1.forward(x), x.size()[2]);
        let read = |x: &Tensor| match sequences {
            Sequences::Images { read } => x.narrow(1, 0, read),
            Sequences::Texts(texts) => texts.ends(x),
        };
        let query = self.in_proj.forward_part(&read(&normed), 0, width);
        let few = matches!(sequences, Sequences::Images { read } if 2 * read < self.head_width);
        let mixed = if few && query.kind() == Kind::Float {
            attention::of_few(&query, &normed, &self.in_proj.weight, &self.in_proj.bias, self.head_width)
        } else {
            let others = self.in_proj.forward_part(&normed, width, 2 * width);
            match sequences {
                Sequences::Images { .. } => attention::of(&query, &others, self.head_width),
                Sequences::Texts(texts) => attention::of_ends(&query, &others, texts, self.head_width),
            }
        };
        self.add(&read(x), &mixed)
    }

    /// What the attention has mixed, and then the MLP's output, added to `x`.
    fn add(&self, x: &Tensor, mixed: &Tensor) -> BlockOutput {
        let attention = self.out_proj.forward(mixed).to_kind(Kind::Float);
        let x = x + &attention;
        let hidden = self.mlp_in.forward(&self.ln_2.forward(&x));
        let output = match self.activation {
            Activation::QuickGelu => self.mlp_out.forward_scaled(&hidden.silu(), QUICK_GELU.recip()),
            Activation::Gelu => self.mlp_out.forward(&hidden.gelu("none")),
        };
        let residual = x + output.to_kind(Kind::Float);
        BlockOutput { attention, residual }
    }
}

/// What is read of a tower's last layer, from the activations before `blocks` and, where it is known, what the first of them
/// projects them to.
pub(super) fn encode(blocks: &[Block], from: (&Tensor, Option<&Tensor>), sequences: Sequences) -> Tensor {
    let (mut x, mut projected) = (from.0.shallow_clone(), from.1);
    let Some((last, others)) = blocks.split_last() else { unreachable!("a tower has layers") };
    for block in others {
        let output = match projected.take() {
            Some(projected) => block.forward_projected(&x, projected, sequences),
            None => block.forward(&x, sequences),
        };
        x = output.residual;
        working::goes_on();
    }
    last.forward_read(&x, sequences).residual
}
