//! A Slurm cluster to try things on: it prints the setting that clients need, and stays until its input ends.

use std::io::{self, Write};

use slurm_sandbox::{Cluster, Plan};

fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::default())?;
    writeln!(io::stdout(), "export SLURM_CONF={}", cluster.conf().display())?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
