//! Protocols: what is measured, and the stages and classes that belong to it.

use crate::names::named;

named! {
    /// What is measured (method.md, section 7).
    pub enum Protocol("protocol") {
        /// Train on the base half of the classes, test on base and on new.
        BaseToNew = "base_to_new",
        /// Train on a source data set, test on others.
        CrossDataset = "cross_dataset",
        /// Train and test on all classes with few images each.
        FewShot = "few_shot",
    }
}

named! {
    /// The part of a protocol that one job does.
    pub enum Stage("stage") {
        /// Train, then test on the classes that were trained on. A method that learns nothing only tests.
        Train = "train",
        /// Test a trained checkpoint on other classes or another data set.
        Test = "test",
    }
}

named! {
    /// Which classes of a data set a job sees (method.md, section 6).
    pub enum ClassSubset("classes") {
        /// All of them.
        All = "all",
        /// The first ⌈n/2⌉ labels.
        Base = "base",
        /// The other labels, relabelled from 0.
        New = "new",
    }
}

impl Stage {
    /// Whether a job of this stage ends with the numbers of an evaluation. One that doesn't makes files only, which its manifest
    /// names; no table has a cell for it.
    pub const fn evaluates(self) -> bool {
        match self {
            Self::Train | Self::Test => true,
        }
    }
}

impl ClassSubset {
    /// The classes that a job of this protocol and stage is evaluated on.
    pub const fn of(protocol: Protocol, stage: Stage) -> Self {
        match (protocol, stage) {
            (Protocol::BaseToNew, Stage::Train) => Self::Base,
            (Protocol::BaseToNew, Stage::Test) => Self::New,
            (Protocol::CrossDataset | Protocol::FewShot, _) => Self::All,
        }
    }
}
