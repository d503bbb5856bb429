//! The files of `deploy` that others run: units, image, compose file, snippets for CI. Checked as far as their own tools are
//! here, and run against a real ledger where they are commands.
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;
use waybill_tests::process::{self, Home, Server};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(file: &str) -> String {
    fs::read_to_string(root().join("deploy").join(file)).unwrap()
}

/// A YAML file as JSON; none where no Python here reads YAML.
fn yaml(file: &str) -> Option<Value> {
    let script =
        "import json, sys, yaml; print(json.dumps(yaml.load(open(sys.argv[1]), yaml.BaseLoader)))";
    let own = root()
        .join("target/test-venv/bin/python")
        .display()
        .to_string();
    let found = ["python3".to_owned(), own].into_iter().find(|python| {
        let probe = Command::new(python).args(["-c", "import yaml"]).output();
        probe.is_ok_and(|output| output.status.success())
    });
    let Some(python) = found else {
        println!("not run: Python lacks pyyaml; tests/run installs it");
        return None;
    };
    let path = root().join("deploy").join(file);
    let output = Command::new(python)
        .args(["-c", script])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items
        .map(|item| item.as_str().unwrap().to_owned())
        .collect()
}

/// Whether the command takes these arguments; it says so before it does anything.
fn takes(arguments: &[String]) -> Output {
    Command::new(process::waybill())
        .args(arguments)
        .arg("--help")
        .output()
        .unwrap()
}

#[test]
fn units_are_valid_and_expose_little() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        println!("not run: no systemd-analyze");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let drop_in = dir.path().join("waybill.service.d");
    for unit in [
        "waybill-broker.service",
        "waybill.service",
        "with its drop-in",
    ] {
        let unit = match unit {
            "with its drop-in" => {
                let lines = text("systemd/waybill-stream.conf");
                fs::create_dir(&drop_in).unwrap();
                let lines = lines.replace("/usr/local/bin/waybill", "/bin/true");
                fs::write(drop_in.join("stream.conf"), lines).unwrap();
                "waybill.service"
            }
            unit => unit,
        };
        // The commands are not installed where this is tested; that they take these arguments is tested below.
        let lines = text(&format!("systemd/{unit}"));
        let lines = lines.lines().map(|line| match line.split_once('=') {
            Some((key, command)) if key.starts_with("Exec") => {
                let arguments = command.split_once(' ').unwrap().1;
                format!("{key}=/bin/true {arguments}\n")
            }
            _ => format!("{line}\n"),
        });
        let path = dir.path().join(unit);
        fs::write(&path, lines.collect::<String>()).unwrap();
        let verified = Command::new("systemd-analyze")
            .arg("verify")
            .arg(&path)
            .output()
            .unwrap();
        assert!(
            verified.status.success() && verified.stderr.is_empty(),
            "{unit}: {verified:?}"
        );
        let exposure = ["security", "--offline=true", "--no-pager", "--threshold=15"];
        let exposed = Command::new("systemd-analyze")
            .args(exposure)
            .arg(&path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&exposed.stdout).into_owned();
        assert!(exposed.status.success(), "{unit}: {told}");
    }
    for file in ["waybill.service", "waybill-stream.conf"] {
        let unit = text(&format!("systemd/{file}")).replace("\\\n", " ");
        let command = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/waybill "))
            .unwrap();
        let arguments: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let taken = takes(&arguments);
        assert!(taken.status.success(), "{file}: {taken:?}");
    }
    assert!(
        !takes(&["serve".to_owned(), "--no-such-flag".to_owned()])
            .status
            .success()
    );
}

#[test]
fn the_image_is_built_of_what_is_there_and_runs_as_nobody() {
    let file = text("Containerfile");
    let instructions: Vec<(&str, &str)> = file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap())
        .collect();
    let ignored = text("Containerfile.dockerignore");
    for (_, arguments) in instructions
        .iter()
        .filter(|(name, arguments)| *name == "COPY" && !arguments.starts_with("--from"))
    {
        let (sources, _) = arguments.rsplit_once(' ').unwrap();
        for source in sources.split(' ') {
            assert!(root().join(source).exists(), "{source}");
            assert!(
                ignored.lines().any(|line| line == format!("!{source}")),
                "{source} is not sent to the builder"
            );
        }
    }
    // Every member of the workspace has to be there, or cargo builds nothing.
    for name in ["crates", "proto", "tests"] {
        assert!(
            instructions.contains(&("COPY", &*format!("{name} {name}"))),
            "{name}"
        );
    }
    let last_stage = instructions
        .iter()
        .rposition(|(name, _)| *name == "FROM")
        .unwrap();
    let last = |wanted: &str| {
        let found = instructions[last_stage..]
            .iter()
            .rfind(|(name, _)| *name == wanted);
        found.map(|(_, arguments)| *arguments)
    };
    assert_eq!(last("USER"), Some("65532:65532"));
    assert_eq!(last("RUN"), None, "there is no shell to run it");
    assert_eq!(last("ENTRYPOINT"), Some("[\"/usr/local/bin/waybill\"]"));
    let arguments: Vec<String> = serde_json::from_str(last("CMD").unwrap()).unwrap();
    let taken = takes(&arguments);
    assert!(taken.status.success(), "{taken:?}");
}

#[test]
fn the_compose_file_refers_to_what_is_there() {
    let Some(compose) = yaml("compose.yaml") else {
        return;
    };
    let volumes = compose["volumes"].as_object().unwrap();
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        for mount in texts(&service["volumes"]) {
            let from = mount.split(':').next().unwrap();
            let is_there = match from {
                // Its operator makes it.
                "./secrets" => true,
                path if path.starts_with('.') => root().join("deploy").join(path).exists(),
                volume => volumes.contains_key(volume),
            };
            assert!(is_there, "{name} mounts {mount}");
        }
    }
    for name in ["broker", "ledger"] {
        let service = &services[name];
        assert_eq!(service["read_only"], "true", "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(
            texts(&service["security_opt"]),
            ["no-new-privileges:true"],
            "{name}"
        );
    }
    let build = &services["ledger"]["build"];
    let context = root()
        .join("deploy")
        .join(build["context"].as_str().unwrap());
    assert!(
        context
            .join(build["dockerfile"].as_str().unwrap())
            .is_file()
    );
    let arguments = texts(&services["ledger"]["command"]);
    let taken = takes(&arguments);
    assert!(taken.status.success(), "{taken:?}");
    assert!(arguments.contains(&"--nats=nats://127.0.0.1:4222".to_owned()));
    // The broker is reached by the ledger alone, over loopback.
    assert_eq!(services["ledger"]["network_mode"], "service:broker");
    assert_eq!(texts(&services["broker"]["ports"]), ["8420:8420"]);
}

/// A checkout with a build and a deploy script, and a home of its own.
fn checkout() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for script in ["build.sh", "deploy.sh"] {
        let path = dir.path().join(script);
        fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let steps: [&[&str]; 4] = [
        &["init", "--quiet"],
        &["add", "."],
        &[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "--quiet",
            "-m",
            "first",
        ],
        &[
            "remote",
            "add",
            "origin",
            "https://github.com/acme/shop.git",
        ],
    ];
    for arguments in steps {
        let done = Command::new("git")
            .args(arguments)
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(done.success(), "{arguments:?}");
    }
    dir
}

/// Runs the lines of a snippet as its system would, and gives the kinds that the ledger then has.
fn recorded(lines: &[String], variables: &[(&str, &str)]) -> Vec<String> {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(
        &Home {
            root: home.path().to_owned(),
        },
        &[],
    )
    .unwrap();
    let checkout = checkout();
    let beside = process::waybill().parent().unwrap().to_owned();
    let path = format!("{}:{}", beside.display(), env::var("PATH").unwrap());
    for line in lines {
        let output = Command::new("bash")
            .args(["-e", "-o", "pipefail", "-c", line])
            .current_dir(checkout.path())
            .env_clear()
            .env("PATH", &path)
            .env("HOME", checkout.path())
            .env("CI", "true")
            .env("WAYBILL_SERVER", &server.url)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }
    let listed = Command::new("curl")
        .args(["-sS", "-H", "content-type: application/json", "-d", "{}"])
        .arg(format!(
            "{}/waybill.v1.LedgerService/ListEvents",
            server.url
        ))
        .output()
        .unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let kinds = listed["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned());
    let kinds = kinds.filter(|kind| !kind.starts_with("ledger.")).collect();
    assert_eq!(server.stop().unwrap(), Some(0));
    kinds
}

const TOLD: [&str; 3] = [
    "build.finished",
    "deployment.started",
    "deployment.finished",
];

#[test]
fn the_github_snippet_records_a_build_and_a_deployment() {
    let Some(workflow) = yaml("ci/github-actions.yaml") else {
        return;
    };
    let job = &workflow["jobs"]["deploy"];
    let steps = job["steps"].as_array().unwrap();
    let lines: Vec<String> = steps
        .iter()
        .filter_map(|step| step["run"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(job["env"]["WAYBILL_TOKEN"], "${{ secrets.WAYBILL_TOKEN }}");
    let variables = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_RUN_ID", "881"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_JOB", "deploy"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "acme/shop"),
    ];
    assert_eq!(recorded(&lines, &variables), TOLD);
}

#[test]
fn the_gitlab_snippet_records_a_build_and_a_deployment() {
    let Some(pipeline) = yaml("ci/gitlab-ci.yaml") else {
        return;
    };
    let stages = texts(&pipeline["stages"]);
    assert!(
        ["build", "deploy"]
            .iter()
            .all(|job| stages.contains(&pipeline[*job]["stage"].as_str().unwrap().to_owned()))
    );
    let lines = [
        texts(&pipeline["build"]["script"]),
        texts(&pipeline["deploy"]["script"]),
    ]
    .concat();
    let variables = [
        ("GITLAB_CI", "true"),
        ("CI_PIPELINE_ID", "881"),
        ("CI_JOB_ID", "12"),
        ("CI_JOB_NAME", "deploy"),
        ("CI_SERVER_URL", "https://gitlab.acme.dev"),
        ("CI_PROJECT_URL", "https://gitlab.acme.dev/acme/shop"),
    ];
    assert_eq!(recorded(&lines, &variables), TOLD);
}
