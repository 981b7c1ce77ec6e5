//! Hyper-parameters: what a job trains with, and how an experiment changes single values of a preset.

use serde::{Deserialize, Serialize};

use crate::input::InvalidInput;
use crate::method::Method;

/// Declares [`Overrides`] and [`Hyperparameters`] with the same keys. Those after `of some methods` may be absent from the values,
/// and are from those of a method that doesn't have them: a new key leaves the identities of older methods' jobs as they are.
macro_rules! hyperparameters {
    ($($(#[$doc:meta])* $key:ident: $type:ty),+; of some methods: $($(#[$some_doc:meta])* $some:ident: $some_type:ty),+ $(,)?) => {
        /// Single values that replace a preset's; a key that is absent leaves the preset's value.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Overrides {
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $key: Option<$type>,)+
            $($(#[$some_doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $some: Option<$some_type>,)+
            /// Evaluation during training.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub eval: Option<Evaluation>,
        }

        /// The resolved values that a job runs with. Keys that a job's method does not have are 0 or absent.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Hyperparameters {
            $($(#[$doc])* pub $key: $type,)+
            $($(#[$some_doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $some: Option<$some_type>,)+
            /// Evaluation during training; changes no result.
            #[serde(default)]
            pub eval: Evaluation,
        }

        impl Overrides {
            /// Every key that can be overridden.
            pub const KEYS: &'static [&'static str] = &[$(stringify!($key),)+ $(stringify!($some),)+ "eval"];
        }

        impl Hyperparameters {
            /// These values with `overrides` in their place, as far as `method` has the keys: an experiment over several
            /// methods may override what only one of them uses.
            #[must_use]
            pub fn with(mut self, method: Method, overrides: &Overrides) -> Self {
                $(if method.has(stringify!($key)) && let Some(value) = overrides.$key {
                    self.$key = value;
                })+
                $(if method.has(stringify!($some)) && overrides.$some.is_some() {
                    self.$some.clone_from(&overrides.$some);
                })+
                if method.has("eval") && let Some(eval) = overrides.eval {
                    self.eval = eval;
                }
                self
            }

            /// The values that mean something for `method`, by key.
            pub fn values_of(&self, method: Method) -> serde_json::Map<String, serde_json::Value> {
                let all = serde_json::to_value(self).unwrap_or_default();
                let all = all.as_object().cloned().unwrap_or_default();
                all.into_iter().filter(|(key, _)| method.has(key)).collect()
            }

            /// Overrides that name every value of `method`, for a job that is to run with exactly these.
            pub fn as_overrides(&self, method: Method) -> Overrides {
                let own = self.clone();
                Overrides {
                    $($key: method.has(stringify!($key)).then_some(own.$key),)+
                    $($some: own.$some,)+
                    eval: method.has("eval").then_some(own.eval),
                }
            }
        }
    };
}

hyperparameters! {
    /// Passes over the training images.
    epochs: u32,
    /// Peak learning rate.
    lr: f64,
    /// Epochs at `warmup_lr` before the cosine begins.
    warmup_epochs: u32,
    /// Learning rate of the warm-up epochs.
    warmup_lr: f64,
    /// Weight decay: decoupled with `AdamW`, added to the gradient with SGD.
    weight_decay: f64,
    /// Images per training step.
    train_batch: u32,
    /// Images per evaluation step.
    test_batch: u32,
    /// α: the share of the class feature's logits in `fused` and in the loss.
    alpha: f64,
    /// β: the share of a layer's own token when it is mixed with what the layer before left.
    beta: f64,
    /// λ: weight of the cosine terms that hold the features to the frozen CLIP's.
    reg_weight: f64,
    /// Weight of the norm term on the projected features.
    final_norm: f64,
    /// Weight of the norm term on the layers' outputs.
    seq_norm: f64,
    /// `d_r`: width of the representation space.
    rep_dim: u32,
    /// K: representation tokens.
    n_rep_tokens: u32,
    /// Rank of the representation projection's residual.
    proj_lora_dim: u32,
    /// r: rank of a layer's residual in the shared aligner.
    res_lora_dim: u32;
    of some methods:
    /// Context vectors in a class's prompt.
    n_ctx: u32,
    /// Momentum of SGD.
    momentum: f64,
    /// The model layers, numbered from 1, that get representation tokens. Absent: method.md section 2, scaled to the tower's
    /// depth (interfaces.md section 5).
    rep_layers: Vec<u32>,
}

/// When to evaluate during training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EvaluationSchedule)]
pub struct Evaluation {
    /// Evaluate after every so many epochs; 0: only at the end.
    pub every_epochs: u32,
}

impl Overrides {
    /// These overrides with those of `narrower` on top.
    #[must_use]
    pub fn merged(&self, narrower: &Self) -> Self {
        let mut merged = serde_json::to_value(self).unwrap_or_default();
        let narrower = serde_json::to_value(narrower).unwrap_or_default();
        if let (Some(into), serde_json::Value::Object(from)) = (merged.as_object_mut(), narrower) {
            into.extend(from);
        }
        serde_json::from_value(merged).unwrap_or_default()
    }

    /// Checks each value's range; the errors' fields are the keys.
    pub fn check(&self) -> Result<(), InvalidInput> {
        let mut refusals = crate::input::Refusals::default();
        let counts = [
            ("train_batch", self.train_batch, 1),
            ("test_batch", self.test_batch, 1),
            ("epochs", self.epochs, 1),
            ("rep_dim", self.rep_dim, 1),
            ("n_rep_tokens", self.n_rep_tokens, 1),
            ("proj_lora_dim", self.proj_lora_dim, 1),
            ("res_lora_dim", self.res_lora_dim, 1),
            ("n_ctx", self.n_ctx, 1),
        ];
        for (key, value, least) in counts {
            if let Some(value) = value.filter(|value| !(least..=1_000_000).contains(value)) {
                refusals.add(InvalidInput::new(key, value, format!("a whole number from {least} to 1000000")));
            }
        }
        for (key, value) in [("alpha", self.alpha), ("beta", self.beta)] {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                refusals.add(InvalidInput::new(key, value, "a number from 0 to 1"));
            }
        }
        if let Some(momentum) = self.momentum.filter(|momentum| !(0.0..1.0).contains(momentum)) {
            refusals.add(InvalidInput::new("momentum", momentum, "a number from 0 to below 1"));
        }
        let weights = [
            ("lr", self.lr),
            ("warmup_lr", self.warmup_lr),
            ("weight_decay", self.weight_decay),
            ("reg_weight", self.reg_weight),
            ("final_norm", self.final_norm),
            ("seq_norm", self.seq_norm),
        ];
        for (key, value) in weights {
            if let Some(value) = value.filter(|value| !value.is_finite() || *value < 0.0) {
                refusals.add(InvalidInput::new(key, value, "a number of at least 0"));
            }
        }
        if let Some(layers) = &self.rep_layers {
            let consecutive = layers.windows(2).all(|pair| pair[1] == pair[0] + 1);
            if layers.is_empty() || layers[0] == 0 || !consecutive {
                let given = layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                refusals.add(InvalidInput::new(
                    "rep_layers",
                    format!("[{given}]"),
                    "consecutive layers, numbered from 1",
                ));
            }
        }
        refusals.finish(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_apply_only_where_the_method_has_the_key() {
        let overrides = Overrides { seq_norm: Some(0.5), lr: Some(0.1), test_batch: Some(7), ..Overrides::default() };
        let resolved = |method: &str| Hyperparameters::default().with(method.parse().unwrap(), &overrides);
        let of = |method: &str| {
            let h = resolved(method);
            (h.seq_norm, h.lr, h.test_batch)
        };
        assert_eq!(of("alignednorm"), (0.5, 0.1, 7));
        assert_eq!(of("mmrlpp"), (0.0, 0.1, 7));
        assert_eq!(of("zero_shot"), (0.0, 0.0, 7));
    }

    #[test]
    fn a_key_of_some_methods_is_not_written_for_the_others() {
        let overrides = Overrides { n_ctx: Some(4), momentum: Some(0.5), ..Overrides::default() };
        let keys = |method: &str| {
            let values = Hyperparameters::default().with(method.parse().unwrap(), &overrides);
            serde_json::to_value(values).unwrap().as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert!(keys("coop").contains(&"n_ctx".to_owned()) && keys("coop").contains(&"momentum".to_owned()));
        assert!(!keys("alignednorm").iter().any(|key| key == "n_ctx" || key == "momentum"));
    }

    #[test]
    fn narrower_overrides_win_key_by_key() {
        let wide = Overrides { lr: Some(0.1), beta: Some(0.9), ..Overrides::default() };
        let narrow = Overrides { beta: Some(0.2), ..Overrides::default() };
        let merged = wide.merged(&narrow);
        assert_eq!((merged.lr, merged.beta, merged.alpha), (Some(0.1), Some(0.2), None));
    }

    #[test]
    fn out_of_range_values_are_named_all_at_once() {
        let overrides = Overrides {
            alpha: Some(1.5),
            momentum: Some(1.0),
            lr: Some(-1.0),
            train_batch: Some(0),
            rep_layers: Some(vec![3, 5]),
            ..Overrides::default()
        };
        let fields: Vec<_> = overrides.check().unwrap_err().errors.into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["train_batch", "alpha", "momentum", "lr", "rep_layers"]);
    }

    #[test]
    fn every_value_survives_the_way_through_overrides() {
        let overrides = Overrides { epochs: Some(3), rep_layers: Some(vec![2, 3]), ..Overrides::default() };
        let method: Method = "alignednorm".parse().unwrap();
        let values = Hyperparameters::default().with(method, &overrides);
        assert_eq!(Hyperparameters::default().with(method, &values.as_overrides(method)), values);
    }
}
