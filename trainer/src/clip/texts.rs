//! How texts are laid out for the text tower: nothing is computed twice, and next to nothing that nobody reads.
//!
//! The mask is causal, so what stands at a position depends on what stands before it alone. What all texts begin with (the
//! start token, what a method puts behind it, the template's words before the class name) is the same in all of them: it
//! is there once, for all. Behind it come the texts' own positions up to their end tokens. Texts of about the same length
//! stand together, filled up to the longest of their group with positions that nobody looks at.
//!
//! Activations are [1, rows, W]: P shared rows, then those of each text, group by group. Shapes: C texts of a group, L own
//! positions of the longest of them.

use tch::{Device, Kind, Tensor};

use crate::tokenizer::Tokens;

/// What a group costs beside its rows, in rows of a tower of `REFERENCE_WIDTH`.
const GROUP_COST: f64 = 3.0;
const REFERENCE_WIDTH: f64 = 512.0;

/// The layout of some texts.
#[derive(Debug)]
pub(crate) struct Texts {
    lengths: Lengths,
    pub(super) groups: Vec<Group>,
    /// The rows of the end tokens, group by group.
    ends: Tensor,
    /// Where each text stands among the texts of all groups.
    places: Tensor,
    /// The shared rows that each of them looks at [P, P].
    pub(super) before: Tensor,
}

/// What a layout is made of.
#[derive(Clone, Debug)]
struct Lengths {
    /// P.
    shared: i64,
    /// The texts, the shortest first.
    order: Vec<usize>,
    /// Their own positions, in this order.
    own: Vec<i64>,
    /// How many of them each group has.
    sizes: Vec<usize>,
}

/// Texts that stand together.
#[derive(Debug)]
pub(super) struct Group {
    /// C.
    pub(super) texts: i64,
    /// L.
    length: i64,
    /// Where its rows begin.
    start: i64,
    /// What an own position looks at: the shared ones, itself and those before it [L, P+L].
    pub(super) before: Tensor,
    /// What the texts' end tokens look at [C, 1, 1, P+L].
    pub(super) until_end: Tensor,
}

impl Texts {
    /// The layout of texts that end at `ends`, for a tower of a width, and their tokens, a row each.
    pub(super) fn new(texts: &[Tokens], ends: &[i64], width: i64, device: Device) -> (Self, Vec<i64>) {
        let lengths = Lengths::new(shared(texts, ends), ends, width);
        let row = |text: usize, from: i64, length: i64| {
            texts[text][from as usize..][..length as usize].iter().map(|&token| i64::from(token))
        };
        let mut tokens: Vec<i64> = row(0, 0, lengths.shared).collect();
        for (texts, length) in lengths.groups() {
            tokens.extend(lengths.order[texts].iter().flat_map(|&text| row(text, lengths.shared, length)));
        }
        (Self::laid_out(lengths, device), tokens)
    }

    /// The layout once `more` positions stand behind the start token.
    pub(crate) fn with_more(&self, more: i64) -> Self {
        let lengths = Lengths { shared: self.lengths.shared + more, ..self.lengths.clone() };
        Self::laid_out(lengths, self.ends.device())
    }

    fn laid_out(lengths: Lengths, device: Device) -> Self {
        let shared = lengths.shared;
        let positions = |count: i64| Tensor::arange(count, (Kind::Int64, device));
        let (mut groups, mut ends, mut start) = (Vec::new(), Vec::new(), shared);
        for (texts, length) in lengths.groups() {
            let own = &lengths.own[texts];
            ends.extend((0..).zip(own).map(|(text, own): (i64, &i64)| start + text * length + own - 1));
            let all = positions(shared + length);
            let last = Tensor::from_slice(own).to_device(device) + (shared - 1);
            let before = all.le_tensor(&(positions(length) + shared).unsqueeze(-1));
            let until_end = all.le_tensor(&last.view([-1, 1, 1, 1]));
            let texts = own.len() as i64;
            groups.push(Group { texts, length, start, before, until_end });
            start += texts * length;
        }
        let mut places = vec![0; lengths.order.len()];
        (0_i64..).zip(&lengths.order).for_each(|(place, &text)| places[text] = place);
        Self {
            groups,
            ends: Tensor::from_slice(&ends).to_device(device),
            places: Tensor::from_slice(&places).to_device(device),
            before: positions(shared).le_tensor(&positions(shared).unsqueeze(-1)),
            lengths,
        }
    }

    /// P, and of each group its texts and L.
    pub(crate) fn rows(&self) -> (i64, Vec<(i64, i64)>) {
        (self.lengths.shared, self.groups.iter().map(|group| (group.texts, group.length)).collect())
    }

    /// How far into its text each row stands.
    pub(super) fn positions(&self) -> Tensor {
        let shared = self.lengths.shared;
        let own = self.groups.iter().flat_map(|group| (0..group.texts * group.length).map(|row| row % group.length));
        let positions: Vec<i64> = (0..shared).chain(own.map(|position| shared + position)).collect();
        Tensor::from_slice(&positions).to_device(self.ends.device())
    }

    /// The shared rows of `x` [1, rows, ..].
    pub(super) fn shared(&self, x: &Tensor) -> Tensor {
        x.narrow(1, 0, self.lengths.shared)
    }

    /// A group's rows of `x` [1, rows, ..].
    pub(super) fn own(x: &Tensor, group: &Group) -> Tensor {
        x.narrow(1, group.start, group.texts * group.length)
    }

    /// The end tokens' rows of `x` [1, rows, W], group by group.
    pub(super) fn ends(&self, x: &Tensor) -> Tensor {
        x.index_select(1, &self.ends)
    }

    /// What stands group by group [1, texts, W], as the texts were given [texts, W].
    pub(super) fn as_given(&self, x: &Tensor) -> Tensor {
        x.squeeze_dim(0).index_select(0, &self.places)
    }
}

impl Lengths {
    fn new(shared: i64, ends: &[i64], width: i64) -> Self {
        let mut order: Vec<usize> = (0..ends.len()).collect();
        order.sort_by_key(|&text| ends[text]);
        let own: Vec<i64> = order.iter().map(|&text| ends[text] + 1 - shared).collect();
        let sizes = grouped(&own, GROUP_COST * (REFERENCE_WIDTH / width as f64).powi(2));
        Self { shared, order, own, sizes }
    }

    /// Each group's places in the order, and its L.
    fn groups(&self) -> impl Iterator<Item = (std::ops::Range<usize>, i64)> {
        let mut start = 0;
        self.sizes.iter().map(move |size| {
            let places = start..start + size;
            start += size;
            (places.clone(), self.own[places.end - 1])
        })
    }
}

/// How many positions the texts begin with in common. Their end tokens aren't among them.
fn shared(texts: &[Tokens], ends: &[i64]) -> i64 {
    let shortest = ends.iter().copied().min().unwrap_or_default();
    let is_shared = |position: &usize| texts.iter().all(|text| text[*position] == texts[0][*position]);
    (0..shortest as usize).take_while(is_shared).count() as i64
}

/// The sizes of groups of texts, given by their lengths in ascending order: those for which all rows and what the groups cost
/// are the least.
fn grouped(lengths: &[i64], cost: f64) -> Vec<usize> {
    // Where a group may end: before a longer text. `best` holds, for each such place, the least cost up to it and where its
    // last group begins.
    let is_end = |&end: &usize| end == lengths.len() || lengths[end] > lengths[end - 1];
    let mut best = vec![(0, 0.0, 0)];
    for end in (1..=lengths.len()).filter(is_end) {
        let with = |&(start, before, _): &(usize, f64, usize)| {
            (before + cost + (end - start) as f64 * lengths[end - 1] as f64, start)
        };
        let least = best.iter().map(with).min_by(|a, b| a.0.total_cmp(&b.0));
        best.extend(least.map(|(cost, start)| (end, cost, start)));
    }
    let (mut sizes, mut at) = (Vec::new(), lengths.len());
    for &(end, _, start) in best.iter().rev() {
        if end == at && end > 0 {
            sizes.push(end - start);
            at = start;
        }
    }
    sizes.reverse();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_trade_rows_for_fewer_of_them() {
        assert_eq!(grouped(&[], 3.0), [0; 0]);
        assert_eq!(grouped(&[4], 3.0), [1]);
        assert_eq!(grouped(&[3, 3, 4, 4, 9], 0.5), [2, 2, 1]);
        assert_eq!(grouped(&[3, 3, 4, 4, 9], 2.5), [4, 1]);
        assert_eq!(grouped(&[3, 3, 4, 4, 9], 30.0), [5]);
    }

    #[test]
    fn texts_stand_behind_what_they_share_and_are_found_again() {
        let text = |words: &[u32]| {
            let mut tokens = [0; 77];
            tokens[..words.len()].copy_from_slice(words);
            tokens
        };
        let texts = [text(&[7, 1, 2, 5, 3, 9]), text(&[7, 1, 4, 9]), text(&[7, 1, 6, 6, 9])];
        // A tower so wide that rows are dear.
        let (layout, tokens) = Texts::new(&texts, &[5, 3, 4], 4096, Device::Cpu);
        assert_eq!(tokens, [7, 1, 4, 9, 6, 6, 9, 2, 5, 3, 9]);
        assert_eq!(layout.positions(), Tensor::from_slice(&[0_i64, 1, 2, 3, 2, 3, 4, 2, 3, 4, 5]));
        let rows = Tensor::from_slice(&tokens).view([1, -1, 1]);
        assert_eq!(layout.ends(&rows).view(-1), Tensor::from_slice(&[9_i64, 9, 9]));
        let places = layout.as_given(&Tensor::from_slice(&[10_i64, 11, 12]).view([1, 3, 1]));
        assert_eq!(places.view(-1), Tensor::from_slice(&[12_i64, 10, 11]));

        // One in which they all stand together, and with two more positions.
        let (layout, tokens) = Texts::new(&texts, &[5, 3, 4], 64, Device::Cpu);
        assert_eq!(tokens, [7, 1, 4, 9, 0, 0, 6, 6, 9, 0, 2, 5, 3, 9]);
        let layout = layout.with_more(2);
        assert_eq!(layout.positions().size(), [16]);
        let rows = Tensor::arange(16, (Kind::Int64, Device::Cpu)).view([1, -1, 1]);
        assert_eq!(layout.ends(&rows).view(-1), Tensor::from_slice(&[5_i64, 10, 15]));
        let until = layout.groups[0].until_end.sum_dim_intlist([-1_i64].as_slice(), false, Kind::Int64);
        assert_eq!(until.view(-1), Tensor::from_slice(&[6_i64, 7, 8]));
    }
}
