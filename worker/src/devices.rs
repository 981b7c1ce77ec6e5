//! Which devices a worker has, and how trainers are started for them.
//!
//! A trainer sees the GPUs that `CUDA_VISIBLE_DEVICES` leaves, and numbers them from 0: `cuda:0`. Of slices of GPUs (MIG) CUDA shows
//! a process one only, whatever the variable says: there each trainer is started for its own slice, which is `cuda:0` to it and
//! goes by its UUID elsewhere.

use crate::options::OptionsError;

/// What the names of slices begin with.
const SLICE: &str = "MIG-";

/// A device for a trainer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// By what people, the coordinator and the driver know it: `cpu`, `cuda:1`, `MIG-…`.
    pub(crate) name: String,
    /// What it is to its trainer.
    pub(crate) inside: String,
}

/// The slices that this worker's slots are for; empty if it was given none.
pub(crate) fn slices(visible: Option<&str>, chosen: &[String]) -> Vec<String> {
    let given = visible.unwrap_or_default().split(',').map(str::trim).filter(|name| name.starts_with(SLICE));
    given.filter(|name| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name)).map(str::to_owned).collect()
}

/// The devices to spread the slots over: those of `chosen`, or else all GPUs, of those that a trainer `found`.
pub(crate) fn choose(chosen: &[String], slices: &[String], found: &[String]) -> Result<Vec<Device>, OptionsError> {
    let has_gpu = found.iter().any(|device| is_gpu(device));
    if !slices.is_empty() && has_gpu {
        return Ok(slices.iter().map(|name| Device { name: name.clone(), inside: "cuda:0".to_owned() }).collect());
    }
    if let Some(device) = chosen.iter().find(|device| !found.contains(device)) {
        return Err(OptionsError::DeviceMissing { device: device.clone(), found: found.to_vec() });
    }
    let mut names = chosen.to_vec();
    if names.is_empty() {
        names = found.iter().filter(|device| is_gpu(device)).cloned().collect();
    }
    if names.is_empty() {
        names.push("cpu".to_owned());
    }
    Ok(names.into_iter().map(|name| Device { inside: name.clone(), name }).collect())
}

/// Whether this can be a device's name.
pub(crate) fn is_device(name: &str) -> bool {
    let is_numbered = || name.strip_prefix("cuda:").is_some_and(|index| index.parse::<u32>().is_ok());
    name == "cpu" || is_numbered() || name.strip_prefix(SLICE).is_some_and(|uuid| !uuid.is_empty())
}

/// Whether a device is a GPU, or a slice of one.
pub(crate) fn is_gpu(name: &str) -> bool {
    name.starts_with("cuda:") || is_slice(name)
}

/// Whether a device is a slice of a GPU.
pub(crate) fn is_slice(name: &str) -> bool {
    name.starts_with(SLICE)
}

/// What the driver calls the device that CUDA numbers so: the variable leaves some, by their numbers or their UUIDs.
pub(crate) fn in_place(visible: Option<&str>, place: usize) -> Option<String> {
    match visible {
        None => Some(place.to_string()),
        Some(visible) => visible.split(',').nth(place).map(|name| name.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn chosen(chosen: &[&str], slices: &[&str], found: &[&str]) -> Result<Vec<[String; 2]>, String> {
        let devices = choose(&names(chosen), &names(slices), &names(found)).map_err(|error| error.to_string())?;
        Ok(devices.into_iter().map(|device| [device.name, device.inside]).collect())
    }

    #[test]
    fn slots_go_to_the_gpus_if_there_are_any() {
        let same = |names: &[&str]| Ok(names.iter().map(|&name| [name.to_owned(), name.to_owned()]).collect());
        let all = ["cpu", "cuda:0", "cuda:1"];
        assert_eq!(chosen(&[], &[], &all), same(&["cuda:0", "cuda:1"]));
        assert_eq!(chosen(&[], &[], &["cpu"]), same(&["cpu"]));
        assert_eq!(chosen(&["cuda:1"], &[], &all), same(&["cuda:1"]));
        let missing = chosen(&["cuda:1"], &[], &["cpu"]).unwrap_err();
        assert_eq!(missing, "`devices`: `cuda:1` is not there: the trainer found cpu");
    }

    #[test]
    fn each_slice_of_a_gpu_is_a_device_of_its_own() {
        let visible = Some("MIG-aa, MIG-bb");
        assert_eq!(slices(visible, &[]), ["MIG-aa", "MIG-bb"]);
        assert_eq!(slices(visible, &names(&["MIG-bb"])), ["MIG-bb"]);
        assert_eq!(slices(Some("0,1"), &[]), [""; 0]);
        let own = |name: &str| [name.to_owned(), "cuda:0".to_owned()];
        // A trainer sees its own only.
        assert_eq!(chosen(&[], &["MIG-aa", "MIG-bb"], &["cpu", "cuda:0"]), Ok(vec![own("MIG-aa"), own("MIG-bb")]));
        // A libtorch without CUDA has none.
        assert_eq!(chosen(&[], &["MIG-aa"], &["cpu"]), Ok(vec![["cpu".to_owned(), "cpu".to_owned()]]));
    }

    #[test]
    fn the_driver_is_asked_by_the_name_that_slurm_gave() {
        assert_eq!(in_place(None, 1).as_deref(), Some("1"));
        assert_eq!(in_place(Some("3,GPU-5c"), 0).as_deref(), Some("3"));
        assert_eq!(in_place(Some("3, GPU-5c"), 1).as_deref(), Some("GPU-5c"));
        assert_eq!(in_place(Some("3"), 1), None);
        for (name, is) in [("cpu", true), ("cuda:0", true), ("MIG-5c", true), ("MIG-", false), ("gpu", false)] {
            assert_eq!(is_device(name), is, "{name}");
        }
    }
}
