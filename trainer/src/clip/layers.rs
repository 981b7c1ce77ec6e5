//! The pre-LN residual attention block that both of CLIP's towers are made of (method.md, section 1), frozen.
//!
//! In mixed precision, products and attention take their operands in half precision and give results in it; layer norms and
//! the residual stream are in single precision, like everything outside the block. This is what `torch.autocast` does, done by
//! hand so that it is the same on every device.
//!
//! Shapes: N sequences, S positions, W width, H heads.

use tch::{Device, Kind, Tensor};

use super::geometry::HEAD_WIDTH;
use super::weights::Weights;

/// The steepness of CLIP's activation, `QuickGELU`: x·σ(1.702x).
const QUICK_GELU: f64 = 1.702;

/// Takes the tensors of one part of a CLIP out of a weights file and puts them on a device.
pub(super) struct Loader<'a> {
    pub(super) weights: &'a mut Weights,
    pub(super) device: Device,
    /// What products and attention are computed in.
    pub(super) kind: Kind,
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

    pub(super) fn blocks(&mut self, prefix: &str, layers: usize) -> Vec<Block> {
        (0..layers).map(|layer| self.block(&format!("{prefix}.{layer}"))).collect()
    }

    fn block(&mut self, name: &str) -> Block {
        // x·σ(1.702x) = silu(1.702x) / 1.702, one fused operation. The factor before it goes into the small tensors, the one
        // behind it into the next product: the matrices stay as they are, in the file's mapping where they can.
        let ln_2 = self.layer_norm(&format!("{name}.ln_2"));
        let mlp_in_bias = self.tensor(&format!("{name}.mlp.c_fc.bias")) * QUICK_GELU;
        Block {
            ln_1: self.layer_norm(&format!("{name}.ln_1")),
            in_proj: Linear {
                weight: self.operand(&format!("{name}.attn.in_proj_weight")),
                bias: self.operand(&format!("{name}.attn.in_proj_bias")),
            },
            out_proj: self.linear(&format!("{name}.attn.out_proj")),
            ln_2: LayerNorm { weight: ln_2.weight * QUICK_GELU, bias: ln_2.bias * QUICK_GELU },
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
/// Where a CPU has no instructions for half precision, libtorch's products in it take 8 to 25 times as long as in single
/// precision. So on the CPU the rounded operands are widened again, and the result is rounded: what hardware gives that
/// multiplies in half precision and sums in single precision.
pub(super) fn in_kind<const N: usize>(
    kind: Kind,
    operands: [&Tensor; N],
    operation: impl FnOnce([&Tensor; N]) -> Tensor,
) -> Tensor {
    let rounded = operands.map(|operand| operand.to_kind(kind));
    if kind == Kind::Float || rounded[0].device() != Device::Cpu {
        return operation(rounded.each_ref());
    }
    let widened = rounded.map(|operand| operand.to_kind(Kind::Float));
    operation(widened.each_ref()).to_kind(kind)
}

/// The positions of a sequence that a layer's output is wanted for. The others still take part as keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows<'a> {
    /// All of them.
    All,
    /// The first so many.
    First(i64),
    /// One for each sequence: indices [N] into the N·S positions of all sequences, one after the other.
    One(&'a Tensor),
}

impl Rows<'_> {
    fn of(self, x: &Tensor) -> Tensor {
        match self {
            Self::All => x.shallow_clone(),
            Self::First(count) => x.narrow(1, 0, count),
            Self::One(indices) => x.flatten(0, 1).index_select(0, indices).unsqueeze(1),
        }
    }
}

/// The positions that a position may look at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mask<'a> {
    /// All of them.
    None,
    /// Itself and those before it; for [`Rows::All`].
    Causal,
    /// Those that are true in a tensor that can be broadcast to [N, H, rows, S].
    Where(&'a Tensor),
}

/// A residual attention block.
#[derive(Debug)]
pub(crate) struct Block {
    ln_1: LayerNorm,
    in_proj: Linear,
    out_proj: Linear,
    /// Times 1.702, like the bias of `mlp_in`.
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

    /// `x += attn(ln_1(x)); x += mlp(ln_2(x))`, for the wanted rows of `x` [N, S, W].
    pub(crate) fn forward(&self, x: &Tensor, rows: Rows, mask: Mask) -> BlockOutput {
        let attention = self.attention(&self.ln_1.forward(x), rows, mask).to_kind(Kind::Float);
        let x = rows.of(x) + &attention;
        let hidden = self.mlp_in.forward(&self.ln_2.forward(&x)).silu();
        let residual = x + self.mlp_out.forward_scaled(&hidden, QUICK_GELU.recip()).to_kind(Kind::Float);
        BlockOutput { attention, residual }
    }

    fn attention(&self, x: &Tensor, rows: Rows, mask: Mask) -> Tensor {
        let (sequences, width) = (x.size()[0], x.size()[2]);
        // [N, S, parts·W] → parts × [N, H, S, W/H]
        let heads = |projected: Tensor, parts: i64| {
            let heads = projected.view([sequences, -1, parts, width / HEAD_WIDTH, HEAD_WIDTH]);
            heads.permute([2, 0, 3, 1, 4]).unbind(0)
        };
        let parts = match rows {
            Rows::All => heads(self.in_proj.forward(x), 3),
            some => {
                let mut parts = heads(self.in_proj.forward_part(&some.of(x), 0, width), 1);
                parts.extend(heads(self.in_proj.forward_part(x, width, 2 * width), 2));
                parts
            }
        };
        let (allowed, causal) = match mask {
            Mask::None => (None, false),
            Mask::Causal => (None, true),
            Mask::Where(allowed) => (Some(allowed), false),
        };
        let [query, key, value] = &parts[..] else { unreachable!("three projections") };
        let mixed = in_kind(query.kind(), [query, key, value], |[query, key, value]| {
            Tensor::scaled_dot_product_attention(query, key, value, allowed, 0.0, causal, None, false)
        });
        self.out_proj.forward(&mixed.transpose(1, 2).reshape([sequences, -1, width]))
    }
}
