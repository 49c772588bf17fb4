//! Debian's kernels for cloud machines: which there are, and where one stands unpacked with its modules.
//!
//! The metapackage names the current one: on Debian 12, linux-image-cloud-amd64 is a 6.1 and
//! linux-image-6.12-cloud-amd64 a 6.12. Unpacked once for each version.

use std::{fmt, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{debian, step, workspace};

/// A kernel series that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Series {
    /// Debian 12's own.
    V6_1,
    /// Debian 12's backport, Debian 13's own.
    V6_12,
}

impl Series {
    /// All of them, oldest first.
    pub(crate) const ALL: [Self; 2] = [Self::V6_1, Self::V6_12];

    fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// The package in `dependencies` that is a kernel of this series.
    fn image_in(self, dependencies: &[String]) -> Option<String> {
        let prefix = format!("linux-image-{}.", self.name());
        dependencies.iter().find(|name| name.starts_with(&prefix) && name.ends_with("-cloud-amd64")).cloned()
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which series were asked for.
#[derive(Clone, Debug)]
pub(super) struct Choice(Vec<Series>);

impl Choice {
    pub(super) fn series(&self) -> &[Series] {
        &self.0
    }
}

/// A series by its name, or all.
pub(super) fn parse_choice(text: &str) -> Result<Choice, String> {
    if text == "all" {
        return Ok(Choice(Series::ALL.to_vec()));
    }
    let one = Series::ALL.into_iter().find(|series| series.name() == text);
    one.map(|series| Choice(vec![series])).ok_or_else(|| "it is 6.1, 6.12 or all".to_owned())
}

/// A kernel, unpacked.
pub(super) struct Kernel {
    /// What `uname -r` says in it.
    pub(super) release: String,
    /// The package's directory name: its name and version.
    pub(super) version: String,
    /// The bootable image.
    pub(super) image: PathBuf,
    /// The directory of its modules, with modules.dep.
    pub(super) modules: PathBuf,
}

impl Kernel {
    /// Fetches and unpacks the kernel of a series, if it is not there.
    pub(super) fn prepare(series: Series) -> Result<Self> {
        let package = package_of(series)?;
        let unpacked = debian::unpack(&package)?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let image = unpacked.join(format!("boot/vmlinuz-{release}"));
        // Debian 13 moved /lib into /usr.
        let above = ["", "usr"].map(|prefix| unpacked.join(prefix));
        let Some(root) = above.into_iter().find(|root| root.join("lib/modules").join(&release).is_dir())
        else {
            bail!("the package {package} holds no modules for {release}");
        };
        let modules = root.join("lib/modules").join(&release);
        if !modules.join("modules.dep").is_file() {
            // The package's installation would have done this.
            let mut depmod =
                Command::new(workspace::program("depmod").context("depmod is missing: package kmod")?);
            step::captured(depmod.arg("--basedir").arg(&root).arg(&release))?;
        }
        let version = unpacked.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { release, version, image, modules })
    }
}

/// The package that holds the current kernel of a series.
fn package_of(series: Series) -> Result<String> {
    let metapackages = [format!("linux-image-{series}-cloud-amd64"), "linux-image-cloud-amd64".to_owned()];
    debian::refresh_if_unknown(&metapackages[1]);
    for metapackage in &metapackages {
        if let Ok(dependencies) = debian::depends(metapackage)
            && let Some(package) = series.image_in(&dependencies)
        {
            return Ok(package);
        }
    }
    bail!(
        "apt knows no Debian kernel {series} for cloud machines (looked for {}): the kernel VMs run on Debian 12 \
         with its security suite enabled",
        metapackages.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::{Series, parse_choice};

    #[test]
    fn a_kernel_belongs_to_one_series() {
        let names = [
            "linux-image-6.12.117+deb12-cloud-amd64".to_owned(),
            "linux-image-6.1.0-56-cloud-amd64".to_owned(),
        ];
        assert_eq!(Series::V6_1.image_in(&names).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(Series::V6_12.image_in(&names).as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(Series::V6_12.image_in(&names[1..]), None);
    }

    #[test]
    fn a_choice_is_one_or_all() {
        assert_eq!(parse_choice("6.12").unwrap().series(), [Series::V6_12]);
        assert_eq!(parse_choice("all").unwrap().series(), Series::ALL);
        assert!(parse_choice("6.18").is_err());
    }
}
