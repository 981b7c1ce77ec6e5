//! What the frozen text tower makes of the class prompts of a trainer's last jobs.

use std::cell::RefCell;
use std::rc::Rc;

use tch::Tensor;

use super::text::{TextError, TextPrefix, TextTower};
use crate::recent::Recent;
use crate::tokenizer::Tokens;

/// Class prompts, as far as nothing trained is in them; a constant.
#[derive(Debug)]
pub(crate) struct Prompts {
    /// Before the first layer that a method puts tokens into.
    pub(crate) prefix: TextPrefix,
    /// The plain tower's features [C, E], not normalised.
    pub(crate) features: Tensor,
}

/// The prompts that were encoded last, by their tokens and the prefix's layers.
#[derive(Debug)]
pub(super) struct KeptPrompts(RefCell<Recent<Key, Rc<Prompts>>>);

type Key = (Vec<Tokens>, usize);

/// What all of them may take, in bytes: the base and the new classes of the largest data sets fit.
const BUDGET: usize = 128 << 20;

impl Default for KeptPrompts {
    fn default() -> Self {
        Self(RefCell::new(Recent::new(BUDGET)))
    }
}

impl KeptPrompts {
    /// The prompts after `layers` layers of the tower, and their features.
    pub(super) fn get(&self, tower: &TextTower, texts: &[Tokens], layers: usize) -> Result<Rc<Prompts>, TextError> {
        let mut kept = self.0.borrow_mut();
        if let Some(prompts) = kept.get(|(tokens, after)| *after == layers && tokens == texts) {
            return Ok(prompts);
        }
        let _constant = tch::no_grad_guard();
        let prefix = tower.prefix(texts, layers)?;
        let features = tower.features(&prefix, layers);
        let prompts = Rc::new(Prompts { prefix, features });
        kept.put((texts.to_vec(), layers), Rc::clone(&prompts), prompts.bytes());
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
