//! Attention: from projected queries, keys and values to what they mix of the values.
//!
//! Shapes: N sequences, S positions, W width, H heads, D a head's width (`head_width`); P, C, L and rows as in [`super::texts`].

use tch::{Kind, Tensor};

use super::layers::in_kind;
use super::texts::Texts;

/// Every position looks at all of its sequence: `projected` [N, S, 3W] holds queries, keys and values. [N, S, W].
pub(super) fn within(projected: &Tensor, head_width: i64) -> Tensor {
    let [query, key, value] = heads(projected, projected.size()[0], head_width);
    joined(&mix(&query, &key, &value, None))
}

/// The positions of `query` [N, R, W] look at all of their sequence: `others` [N, S, 2W] holds keys and values. [N, R, W].
pub(super) fn of(query: &Tensor, others: &Tensor, head_width: i64) -> Tensor {
    let sequences = query.size()[0];
    let ([query], [key, value]) = (heads(query, sequences, head_width), heads(others, sequences, head_width));
    joined(&mix(&query, &key, &value, None))
}

/// The same for few queries, from the positions `x` [N, S, W] and the projection's `weight` [3W, W] and `bias` [3W].
///
/// The queries are multiplied by the keys' matrix, not every position by it, and what is mixed of the positions by the
/// values' matrix: the same products in another order, with fewer multiplications as long as there are fewer queries than
/// a head is wide. The keys' bias adds one number to all of a query's products, which changes nothing behind the softmax. The
/// shares add up to 1, so the values' bias is added to their mixture.
pub(super) fn of_few(query: &Tensor, x: &Tensor, weight: &Tensor, bias: &Tensor, head_width: i64) -> Tensor {
    let (sequences, queries, width) = (query.size()[0], query.size()[1], query.size()[2]);
    let (heads, all) = (width / head_width, sequences * queries);
    let matrices = |part: i64| weight.narrow(0, part * width, width).view([heads, head_width, width]);
    let by_sequence = |x: Tensor| {
        x.view([heads, sequences, queries, width]).transpose(0, 1).reshape([sequences, heads * queries, width])
    };
    let by_head = |x: Tensor| x.view([sequences, heads, queries, width]).transpose(0, 1).reshape([heads, all, width]);

    let scaled = query * (head_width as f64).sqrt().recip();
    let query = by_sequence(scaled.view([all, heads, head_width]).transpose(0, 1).bmm(&matrices(1)));
    let shares = query.bmm(&x.transpose(1, 2)).softmax(-1, Kind::Float);
    let mixed = by_head(shares.bmm(x)).bmm(&matrices(2).transpose(1, 2));
    mixed.transpose(0, 1).reshape([sequences, queries, width]) + bias.narrow(0, 2 * width, width)
}

/// Every position of a text looks at itself and those before it: `projected` [1, rows, 3W]. [1, rows, W].
pub(super) fn within_texts(projected: &Tensor, texts: &Texts, head_width: i64) -> Tensor {
    let [query, shared_key, shared_value] = heads(&texts.shared(projected), 1, head_width);
    let mut mixed = vec![joined(&mix(&query, &shared_key, &shared_value, Some(&texts.before)))];
    for group in &texts.groups {
        let [query, key, value] = heads(&Texts::own(projected, group), group.texts, head_width);
        let (key, value) = (behind(&shared_key, &key), behind(&shared_value, &value));
        mixed.push(joined(&mix(&query, &key, &value, Some(&group.before))).flatten(0, 1).unsqueeze(0));
    }
    Tensor::cat(&mixed, 1)
}

/// The end tokens look at their texts: `query` [1, texts, W] group by group, `others` [1, rows, 2W]. [1, texts, W].
pub(super) fn of_ends(query: &Tensor, others: &Tensor, texts: &Texts, head_width: i64) -> Tensor {
    let [shared_key, shared_value] = heads(&texts.shared(others), 1, head_width);
    let (mut mixed, mut start) = (Vec::new(), 0);
    for group in &texts.groups {
        let [query] = heads(&query.narrow(1, start, group.texts), group.texts, head_width);
        let [key, value] = heads(&Texts::own(others, group), group.texts, head_width);
        let (key, value) = (behind(&shared_key, &key), behind(&shared_value, &value));
        mixed.push(joined(&mix(&query, &key, &value, Some(&group.until_end))).transpose(0, 1));
        start += group.texts;
    }
    Tensor::cat(&mixed, 1)
}

/// The parts of `projected`, whose positions are those of so many sequences: each [N, H, S, D].
fn heads<const PARTS: usize>(projected: &Tensor, sequences: i64, head_width: i64) -> [Tensor; PARTS] {
    let width = projected.size()[2] / PARTS as i64;
    // Cut in the last dimension, so that the parts' gradients are put together by one copy.
    let parts = projected.split(width, 2);
    std::array::from_fn(|part| parts[part].reshape([sequences, -1, width / head_width, head_width]).transpose(1, 2))
}

/// [N, H, S, D] → [N, S, W].
fn joined(heads: &Tensor) -> Tensor {
    heads.transpose(1, 2).flatten(2, 3)
}

/// The texts' own positions [C, H, L, D] behind the shared ones [1, H, P, D].
fn behind(shared: &Tensor, own: &Tensor) -> Tensor {
    Tensor::cat(&[shared.expand([own.size()[0], -1, -1, -1], false), own.shallow_clone()], 2)
}

/// What each query mixes of the values, of all or of those where `allowed` is true.
fn mix(query: &Tensor, key: &Tensor, value: &Tensor, allowed: Option<&Tensor>) -> Tensor {
    in_kind(query.kind(), [query, key, value], |[query, key, value]| {
        Tensor::scaled_dot_product_attention(query, key, value, allowed, 0.0, false, None, false)
    })
}
