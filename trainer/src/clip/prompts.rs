//! What the frozen text tower makes of the class prompts of a trainer's last jobs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use tch::Tensor;

use super::text::{TextError, TextPrefix, TextTower};
use crate::tokenizer::Tokens;

/// Class prompts, as far as nothing trained is in them; a constant.
#[derive(Debug)]
pub(crate) struct Prompts {
    /// Before the first layer that a method puts tokens into.
    pub(crate) prefix: TextPrefix,
    /// The plain tower's features [C, E], not normalised.
    pub(crate) features: Tensor,
}

/// The prompts that were encoded last, the latest first, by their tokens and the prefix's layers.
#[derive(Debug, Default)]
pub(super) struct KeptPrompts(RefCell<VecDeque<(Key, Rc<Prompts>)>>);

type Key = (Vec<Tokens>, usize);

/// What all of them may take, in bytes: the base and the new classes of the largest data sets fit. The latest are kept in any case.
const BUDGET: usize = 128 << 20;

impl KeptPrompts {
    /// The prompts after `layers` layers of the tower, and their features.
    pub(super) fn get(&self, tower: &TextTower, texts: &[Tokens], layers: usize) -> Result<Rc<Prompts>, TextError> {
        let mut kept = self.0.borrow_mut();
        let place = kept.iter().position(|((tokens, after), _)| *after == layers && tokens == texts);
        if let Some(found) = place.and_then(|place| kept.remove(place)) {
            let prompts = Rc::clone(&found.1);
            kept.push_front(found);
            return Ok(prompts);
        }
        let _constant = tch::no_grad_guard();
        let prefix = tower.prefix(texts, layers)?;
        let features = tower.features(&prefix, layers);
        let prompts = Rc::new(Prompts { prefix, features });
        kept.push_front(((texts.to_vec(), layers), Rc::clone(&prompts)));
        let mut bytes = 0;
        let fits = |(_, prompts): &(Key, Rc<Prompts>)| {
            bytes += prompts.bytes();
            bytes <= BUDGET
        };
        let count = kept.iter().map(fits).take_while(|fits| *fits).count();
        kept.truncate(count.max(1));
        Ok(prompts)
    }
}

impl Prompts {
    fn bytes(&self) -> usize {
        let TextPrefix { activations, projected, .. } = &self.prefix;
        let tensors = [Some(activations), projected.as_ref(), Some(&self.features)];
        tensors.into_iter().flatten().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
    }
}
