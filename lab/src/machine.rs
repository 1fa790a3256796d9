//! Turns the description of a machine into what the emulator needs: the guest's files and the command line.

use crate::artifacts;
use crate::counts;
use crate::error::LabError;
use crate::image::Image;
use crate::kernel;
use crate::qemu::{self, RunDir};
use crate::setup::{self, output};
use crate::vm::{USERS, Vm, quote};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

impl Vm<'_> {
    /// The guest's files.
    pub(crate) fn image(&self, command: &str, uid: u32) -> Result<Image, LabError> {
        let mut image = Image::new();
        image.host(Path::new("/bin/busybox"), "/bin/busybox", &|_| true)?;
        for applet in output(Command::new("/bin/busybox").arg("--list"))?.lines().filter(|a| *a != "busybox")
        {
            image.link(&format!("/usr/bin/{applet}"), "busybox");
        }
        // The command's shell is Debian's, not busybox's, which prefers its own applets to the programs put
        // into the guest.
        image.host(Path::new("/bin/dash"), "/bin/sh", &|_| true)?;
        image.bytes("/init", include_str!("../guest/init.sh"), 0o755);
        image.host(&setup::guest_helper()?, "/lab/guest", &|_| true)?;
        image.bytes("/lab/layout.sh", self.layout.guest_script(), 0o644);
        let mut etc = (String::new(), String::new());
        for (name, id) in USERS {
            let _ = writeln!(etc.0, "{name}:x:{id}:{id}:{name}:/job:/bin/sh");
            let _ = writeln!(etc.1, "{name}:x:{id}:");
        }
        image.bytes("/etc/passwd", etc.0, 0o644);
        image.bytes("/etc/group", etc.1, 0o644);
        image.bytes("/etc/hosts", "127.0.0.1 localhost lab\n", 0o644);

        // Linux 6.1 has the console ports as modules, 6.12 has them built in.
        let mut names = vec!["virtio_pci", "virtio_console"];
        names.extend(self.layout.modules());
        names.extend(self.modules.iter().map(String::as_str));
        let mut list = String::new();
        for module in kernel::modules(self.kernel, &names)? {
            let path = format!("/lab/modules.d/{}", module.name);
            let _ = writeln!(list, "{path}");
            image.bytes(&path, module.bytes, 0o644);
        }
        image.bytes("/lab/modules", list, 0o644);

        let terrace = self.terrace.clone().or_else(artifacts::newest_build);
        if let Some(dir) = &terrace {
            artifacts::add_terrace(&mut image, dir)?;
        }
        for name in &self.programs {
            artifacts::add_program(&mut image, name)?;
        }
        for (host, guest) in &self.files {
            fs::metadata(host).map_err(|e| LabError::Usage(format!("{}: {e}", host.display())))?;
            image.host(host, guest, &|_| true)?;
        }
        for (name, text) in &self.c_programs {
            image.host(&setup::guest_program(name, text)?, &format!("/job/{name}"), &|_| true)?;
        }
        artifacts::add_libraries(&mut image)?;

        let mut script =
            String::from("export PATH=/terrace:/job:/usr/local/bin:/usr/bin:/usr/sbin HOME=/job TERM=dumb\n");
        let _ = writeln!(script, "export USER={0} LOGNAME={0}", self.user);
        for (key, value) in &self.env {
            artifacts::check_mentions(&image, value)?;
            let _ = writeln!(script, "export {key}={}", quote(value));
        }
        artifacts::check_mentions(&image, command)?;
        let _ = writeln!(script, "{command}");
        image.bytes("/lab/command", script, 0o644);
        image.bytes("/lab/run", format!("LAB_UID={uid} LAB_GID={uid}\n"), 0o644);
        Ok(image)
    }

    /// The emulator with all its arguments.
    pub(crate) fn qemu_command(&self, run: &RunDir) -> Result<Vec<String>, LabError> {
        let version = setup::qemu_version()?;
        // The emulator runs `rep movsb` byte by byte; without ERMS the guest's C library and kernel use vector
        // loops, up to ten times faster. QEMU 7.2 emulates cmpxchg16b wrongly (kernels crashed in 5 % of
        // boots), so it is hidden there.
        let cpu = if version < (9, 0) { "max,-erms,-fsrm,-cx16" } else { "max,-erms,-fsrm" };
        let mut args = vec![setup::qemu().to_string_lossy().into_owned()];
        args.extend(
            ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"]
                .map(Into::into),
        );
        args.extend(["-accel", "tcg,thread=multi", "-cpu", cpu].map(Into::into));
        args.extend(self.layout.qemu_args(self.dram_mib, self.device_mib, self.cpus));
        args.extend(["-kernel".into(), kernel::vmlinux(self.kernel).display().to_string()]);
        args.extend(["-initrd".into(), run.initrd().display().to_string()]);
        let layout = self.layout.kernel_args(self.dram_mib, self.device_mib);
        // Everything here is for the speed of booting; none of it changes how memory is managed.
        let kernel = "console=ttyS0 panic=-1 quiet mitigations=off nokaslr cryptomgr.notests";
        args.extend(["-append".into(), format!("{kernel} {layout}{}", self.append)]);
        args.extend(qemu::channel_args(run));
        if let Some(range) = &self.count {
            args.extend(counts::plugin_args(
                self.layout,
                self.dram_mib,
                self.device_mib,
                range,
                &run.counts(),
                version,
            )?);
        }
        Ok(args)
    }
}

/// A private directory, and the removal of those that killed processes left behind.
pub(crate) fn new_run_dir() -> Result<RunDir, LabError> {
    let all = setup::directory().join("run");
    for old in fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = old.file_name().to_string_lossy().into_owned();
        let alive = name.split('.').next().is_some_and(|pid| Path::new("/proc").join(pid).exists());
        if !alive {
            let _ = fs::remove_dir_all(old.path());
        }
    }
    let dir = all.join(setup::unique());
    fs::create_dir_all(&dir).map_err(LabError::io(format!("create {}", dir.display())))?;
    Ok(RunDir { dir })
}

/// Unpacks what the guest left in /out.
pub(crate) fn collect(run: &RunDir, files: &Path) -> Result<(), LabError> {
    fs::create_dir_all(files).map_err(LabError::io(format!("create {}", files.display())))?;
    if fs::metadata(run.results()).is_ok_and(|m| m.len() > 0) {
        output(
            Command::new("tar").args(["-x", "--no-same-owner", "-f"]).arg(run.results()).arg("-C").arg(files),
        )?;
    }
    Ok(())
}
