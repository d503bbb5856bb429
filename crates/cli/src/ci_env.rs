//! What the environment of a CI job says of itself: which run this is, of which repository, at which revision.
//!
//! Pure over a lookup of variables. Two executions of one job must differ, or the second one's outcome would
//! contradict the first's; two steps of one execution must not, so that a step run again is a duplicate. Each system
//! below therefore says what it counts: attempts where it counts them, else a job's own id. What is not said is left
//! out, and the local checkout may know it.

/// One execution of one CI job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ci {
    /// `github-actions`, `gitlab-ci`, …
    pub(crate) provider: String,
    /// The run's id, unique within the provider.
    pub(crate) run_id: String,
    /// 1 for the first.
    pub(crate) attempt: u32,
    /// The job within the run; empty where the system has no name for it.
    pub(crate) job: String,
    /// A page for people; empty where it is not known.
    pub(crate) uri: String,
    /// A clone URL or a web address; may hold a user and a password.
    pub(crate) repository: Option<String>,
    /// A commit id in lower case, or what is said in its place.
    pub(crate) revision: Option<Result<String, String>>,
}

/// Systems in the order in which they are asked: those that also set another's variables come before it.
const SYSTEMS: [fn(&Variables<'_>) -> Option<Ci>; 11] = [
    forgejo_actions,
    github_actions,
    gitlab_ci,
    woodpecker,
    drone,
    circleci,
    buildkite,
    azure_pipelines,
    bitbucket_pipelines,
    travis,
    jenkins_or_teamcity,
];

/// Reads the environment of the CI system that this process runs in. None outside of CI, and where the environment was
/// not handed on (a container), so that the run's id is not known.
pub(crate) fn detect(var: &dyn Fn(&str) -> Option<String>) -> Option<Ci> {
    SYSTEMS.iter().find_map(|system| system(&Variables(var)))
}

/// The environment; what is empty is absent.
struct Variables<'v>(&'v dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// The first of several variables that is there.
    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    fn or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.text(name)
            .is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.text(name)?.parse().ok()
    }

    /// A commit id; words such as `HEAD` and the numbers of other version controls are none.
    fn revision(&self, names: &[&str]) -> Option<Result<String, String>> {
        let said = self.first(names)?;
        let good =
            (7..=64).contains(&said.len()) && said.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(if good {
            Ok(said.to_ascii_lowercase())
        } else {
            Err(said)
        })
    }

    /// Those of several variables that are there, joined.
    fn joined(&self, names: &[&str], separator: &str) -> String {
        names
            .iter()
            .filter_map(|name| self.text(name))
            .collect::<Vec<_>>()
            .join(separator)
    }
}

/// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>. Runs again with the same run id and
/// the next attempt. On a pull request the revision is the trial merge that was checked out.
fn github_actions(var: &Variables<'_>) -> Option<Ci> {
    var.is("GITHUB_ACTIONS", "true")
        .then(|| actions(var, "github-actions"))?
}

/// Forgejo and Gitea set GitHub's variables too. Their address of a run is made of its number, not of its id.
fn forgejo_actions(var: &Variables<'_>) -> Option<Ci> {
    let provider = match (
        var.is("FORGEJO_ACTIONS", "true"),
        var.is("GITEA_ACTIONS", "true"),
    ) {
        (true, _) => "forgejo-actions",
        (false, true) => "gitea-actions",
        (false, false) => return None,
    };
    let ci = actions(var, provider)?;
    let uri = match (&ci.repository, var.text("GITHUB_RUN_NUMBER")) {
        (Some(repository), Some(number)) => format!("{repository}/actions/runs/{number}"),
        _ => String::new(),
    };
    Some(Ci { uri, ..ci })
}

fn actions(var: &Variables<'_>, provider: &str) -> Option<Ci> {
    let run_id = var.text("GITHUB_RUN_ID")?;
    let server = var.text("GITHUB_SERVER_URL");
    let repository = server
        .zip(var.text("GITHUB_REPOSITORY"))
        .map(|(server, name)| format!("{server}/{name}"));
    let attempt = var.number("GITHUB_RUN_ATTEMPT").unwrap_or(1);
    let page =
        |repository: &String| format!("{repository}/actions/runs/{run_id}/attempts/{attempt}");
    Some(Ci {
        provider: provider.to_owned(),
        attempt,
        job: var.or_empty("GITHUB_JOB"),
        uri: repository.as_ref().map(page).unwrap_or_default(),
        repository,
        revision: var.revision(&["GITHUB_SHA"]),
        run_id,
    })
}

/// <https://docs.gitlab.com/ci/variables/predefined_variables/>. A job that is retried keeps its pipeline and its name
/// and gets another id.
fn gitlab_ci(var: &Variables<'_>) -> Option<Ci> {
    var.text("GITLAB_CI")?;
    Some(Ci {
        provider: "gitlab-ci".to_owned(),
        run_id: var.text("CI_PIPELINE_ID")?,
        attempt: 1,
        job: var.joined(&["CI_JOB_NAME", "CI_JOB_ID"], "#"),
        uri: var
            .first(&["CI_JOB_URL", "CI_PIPELINE_URL"])
            .unwrap_or_default(),
        repository: var.first(&["CI_PROJECT_URL", "CI_REPOSITORY_URL"]),
        revision: var.revision(&["CI_COMMIT_SHA"]),
    })
}

/// <https://woodpecker-ci.org/docs/usage/environment>. Pipelines are numbered within a repository; a restart is
/// another number. The second names are those of version 0.15.
fn woodpecker(var: &Variables<'_>) -> Option<Ci> {
    if !var.is("CI", "woodpecker") {
        return None;
    }
    let number = var.first(&["CI_PIPELINE_NUMBER", "CI_BUILD_NUMBER"])?;
    Some(Ci {
        provider: "woodpecker".to_owned(),
        run_id: format!("{}#{number}", var.text("CI_REPO")?),
        attempt: 1,
        job: var.joined(&["CI_WORKFLOW_NAME", "CI_STEP_NAME"], "/"),
        uri: var
            .first(&["CI_PIPELINE_URL", "CI_BUILD_LINK"])
            .unwrap_or_default(),
        repository: var.first(&["CI_REPO_CLONE_URL", "CI_REPO_REMOTE", "CI_REPO_URL"]),
        revision: var.revision(&["CI_COMMIT_SHA"]),
    })
}

/// <https://docs.drone.io/pipeline/environment/reference/>. Builds are numbered within a repository; a restart is
/// another number.
fn drone(var: &Variables<'_>) -> Option<Ci> {
    if !var.is("DRONE", "true") {
        return None;
    }
    let number = var.text("DRONE_BUILD_NUMBER")?;
    Some(Ci {
        provider: "drone".to_owned(),
        run_id: format!("{}#{number}", var.text("DRONE_REPO")?),
        attempt: 1,
        job: var.joined(&["DRONE_STAGE_NAME", "DRONE_STEP_NAME"], "/"),
        uri: var.or_empty("DRONE_BUILD_LINK"),
        repository: var.first(&["DRONE_GIT_HTTP_URL", "DRONE_REMOTE_URL", "DRONE_REPO_LINK"]),
        revision: var.revision(&["DRONE_COMMIT_SHA", "DRONE_COMMIT"]),
    })
}

/// <https://circleci.com/docs/reference/variables/>. A rerun is another workflow; copies of a job that run in parallel
/// are told apart by their index.
fn circleci(var: &Variables<'_>) -> Option<Ci> {
    if !var.is("CIRCLECI", "true") {
        return None;
    }
    let is_copy = var
        .number("CIRCLE_NODE_TOTAL")
        .is_some_and(|total| total > 1);
    let names: &[&str] = if is_copy {
        &["CIRCLE_JOB", "CIRCLE_NODE_INDEX"]
    } else {
        &["CIRCLE_JOB"]
    };
    Some(Ci {
        provider: "circleci".to_owned(),
        run_id: var.first(&["CIRCLE_WORKFLOW_ID", "CIRCLE_BUILD_NUM"])?,
        attempt: 1,
        job: var.joined(names, "#"),
        uri: var.or_empty("CIRCLE_BUILD_URL"),
        repository: var.text("CIRCLE_REPOSITORY_URL"),
        revision: var.revision(&["CIRCLE_SHA1"]),
    })
}

/// <https://buildkite.com/docs/pipelines/configure/environment-variables>. A rebuild is another build; a retried job
/// keeps its step and counts retries from 0.
fn buildkite(var: &Variables<'_>) -> Option<Ci> {
    if !var.is("BUILDKITE", "true") {
        return None;
    }
    let step = var
        .first(&["BUILDKITE_STEP_KEY", "BUILDKITE_LABEL", "BUILDKITE_STEP_ID"])
        .unwrap_or_default();
    let copy = var
        .text("BUILDKITE_PARALLEL_JOB")
        .map(|copy| format!("#{copy}"))
        .unwrap_or_default();
    let job_id = var
        .text("BUILDKITE_JOB_ID")
        .map(|id| format!("#{id}"))
        .unwrap_or_default();
    Some(Ci {
        provider: "buildkite".to_owned(),
        run_id: var.text("BUILDKITE_BUILD_ID")?,
        attempt: var
            .number("BUILDKITE_RETRY_COUNT")
            .unwrap_or(0)
            .saturating_add(1),
        job: step + &copy,
        uri: var
            .text("BUILDKITE_BUILD_URL")
            .map(|build| build + &job_id)
            .unwrap_or_default(),
        repository: var.text("BUILDKITE_REPO"),
        revision: var.revision(&["BUILDKITE_COMMIT"]),
    })
}

/// <https://learn.microsoft.com/azure/devops/pipelines/build/variables>. Jobs and stages count attempts of their own.
fn azure_pipelines(var: &Variables<'_>) -> Option<Ci> {
    if !var.is("TF_BUILD", "true") {
        return None;
    }
    let run_id = var.text("BUILD_BUILDID")?;
    let stage = match (
        var.text("SYSTEM_STAGENAME"),
        var.number("SYSTEM_STAGEATTEMPT"),
    ) {
        (Some(stage), Some(attempt @ 2..)) => format!("{stage}#{attempt}/"),
        (Some(stage), _) => format!("{stage}/"),
        (None, _) => String::new(),
    };
    let project = var
        .text("SYSTEM_COLLECTIONURI")
        .zip(var.text("SYSTEM_TEAMPROJECT"));
    let page = |(collection, project): (String, String)| {
        let collection = collection.trim_end_matches('/');
        format!(
            "{collection}/{}/_build/results?buildId={run_id}",
            project.replace(' ', "%20")
        )
    };
    Some(Ci {
        provider: "azure-pipelines".to_owned(),
        attempt: var.number("SYSTEM_JOBATTEMPT").unwrap_or(1),
        job: stage + &var.or_empty("SYSTEM_JOBNAME"),
        uri: project.map(page).unwrap_or_default(),
        repository: var.text("BUILD_REPOSITORY_URI"),
        revision: var.revision(&["BUILD_SOURCEVERSION"]),
        run_id,
    })
}

/// <https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/>. Pipelines are numbered within a
/// repository; a step that runs again counts its runs. Steps have ids only, no names.
fn bitbucket_pipelines(var: &Variables<'_>) -> Option<Ci> {
    let number = var.text("BITBUCKET_BUILD_NUMBER")?;
    let repository = var.text("BITBUCKET_REPO_FULL_NAME")?;
    Some(Ci {
        provider: "bitbucket-pipelines".to_owned(),
        run_id: format!("{repository}#{number}"),
        attempt: var.number("BITBUCKET_STEP_RUN_NUMBER").unwrap_or(1),
        job: var
            .or_empty("BITBUCKET_STEP_UUID")
            .trim_matches(['{', '}'])
            .to_owned(),
        uri: format!("https://bitbucket.org/{repository}/pipelines/results/{number}"),
        repository: Some(format!("https://bitbucket.org/{repository}")),
        revision: var.revision(&["BITBUCKET_COMMIT"]),
    })
}

/// <https://docs.travis-ci.com/user/environment-variables/>. A build that is restarted keeps all its ids, so that its
/// events are taken for repeats. Which forge the repository is on is not said.
fn travis(var: &Variables<'_>) -> Option<Ci> {
    if !var.is("TRAVIS", "true") {
        return None;
    }
    Some(Ci {
        provider: "travis".to_owned(),
        run_id: var.text("TRAVIS_BUILD_ID")?,
        attempt: 1,
        job: var
            .first(&["TRAVIS_JOB_NUMBER", "TRAVIS_JOB_ID"])
            .unwrap_or_default(),
        uri: var
            .first(&["TRAVIS_JOB_WEB_URL", "TRAVIS_BUILD_WEB_URL"])
            .unwrap_or_default(),
        repository: None,
        revision: var.revision(&["TRAVIS_COMMIT"]),
    })
}

/// Both number builds within a job and set `BUILD_NUMBER`; a rebuild is another number.
fn jenkins_or_teamcity(var: &Variables<'_>) -> Option<Ci> {
    let number = var.text("BUILD_NUMBER")?;
    if var.text("TEAMCITY_VERSION").is_some() {
        teamcity(var, &number)
    } else {
        jenkins(var, &number)
    }
}

/// <https://www.jetbrains.com/help/teamcity/predefined-build-parameters.html>
fn teamcity(var: &Variables<'_>, number: &str) -> Option<Ci> {
    let job = var.text("TEAMCITY_BUILDCONF_NAME")?;
    let configuration = var.joined(&["TEAMCITY_PROJECT_NAME", "TEAMCITY_BUILDCONF_NAME"], "/");
    Some(Ci {
        provider: "teamcity".to_owned(),
        run_id: var
            .text("TEAMCITY_BUILD_ID")
            .unwrap_or_else(|| format!("{configuration}#{number}")),
        attempt: 1,
        job,
        uri: var.or_empty("BUILD_URL"),
        repository: None,
        revision: var.revision(&["BUILD_VCS_NUMBER"]),
    })
}

/// `JENKINS_URL/env-vars.html` of every server. The git variables are there where the job checked out through Jenkins.
fn jenkins(var: &Variables<'_>, number: &str) -> Option<Ci> {
    var.first(&["JENKINS_URL", "JENKINS_HOME"])?;
    Some(Ci {
        provider: "jenkins".to_owned(),
        run_id: format!("{}#{number}", var.text("JOB_NAME")?),
        attempt: 1,
        job: var.or_empty("STAGE_NAME"),
        uri: var.or_empty("BUILD_URL"),
        repository: var.first(&["GIT_URL", "GIT_URL_1"]),
        revision: var.revision(&["GIT_COMMIT"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "1f2e3d4c5b6a79880112233445566778899aabbc";

    fn found(environment: &str) -> Option<Ci> {
        let var = |name: &str| {
            let line = environment
                .split_whitespace()
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            line.map(|value| value.replace("SHA", SHA).replace('+', " "))
        };
        detect(&var)
    }

    /// `provider | run | attempt | job | repository | uri` of an environment, in which `SHA` is a commit id and `+` a
    /// space.
    fn shown(environment: &str) -> String {
        let Some(ci) = found(environment) else {
            return "nothing".to_owned();
        };
        assert_eq!(
            ci.revision,
            environment.contains("SHA").then(|| Ok(SHA.to_owned())),
            "{environment}"
        );
        let repository = ci.repository.unwrap_or_else(|| "?".to_owned());
        format!(
            "{} | {} | {} | {} | {repository} | {}",
            ci.provider, ci.run_id, ci.attempt, ci.job, ci.uri
        )
    }

    #[test]
    fn hosted_systems() {
        let cases = [
            (
                "CI=true GITHUB_ACTIONS=true GITHUB_RUN_ID=17 GITHUB_RUN_ATTEMPT=2 GITHUB_JOB=deploy GITHUB_SHA=SHA
                 GITHUB_SERVER_URL=https://github.com GITHUB_REPOSITORY=acme/shop",
                "github-actions | 17 | 2 | deploy | https://github.com/acme/shop | \
                 https://github.com/acme/shop/actions/runs/17/attempts/2",
            ),
            (
                "GITHUB_ACTIONS=true GITEA_ACTIONS=true FORGEJO_ACTIONS=true GITHUB_RUN_ID=900 GITHUB_RUN_NUMBER=9
                 GITHUB_JOB=deploy GITHUB_SERVER_URL=https://codeberg.org GITHUB_REPOSITORY=acme/shop GITHUB_SHA=SHA",
                "forgejo-actions | 900 | 1 | deploy | https://codeberg.org/acme/shop | \
                 https://codeberg.org/acme/shop/actions/runs/9",
            ),
            (
                "GITLAB_CI=true CI_PIPELINE_ID=5 CI_JOB_NAME=deploy:+prod CI_JOB_ID=77 CI_COMMIT_SHA=SHA
                 CI_PROJECT_URL=https://gitlab.com/acme/shop CI_JOB_URL=https://gitlab.com/acme/shop/-/jobs/77",
                "gitlab-ci | 5 | 1 | deploy: prod#77 | https://gitlab.com/acme/shop | \
                 https://gitlab.com/acme/shop/-/jobs/77",
            ),
            (
                "CIRCLECI=true CIRCLE_WORKFLOW_ID=w-1 CIRCLE_JOB=test CIRCLE_NODE_TOTAL=4 CIRCLE_NODE_INDEX=3
                 CIRCLE_SHA1=SHA CIRCLE_REPOSITORY_URL=git@github.com:acme/shop.git CIRCLE_BUILD_URL=https://c/1",
                "circleci | w-1 | 1 | test#3 | git@github.com:acme/shop.git | https://c/1",
            ),
            (
                "BUILDKITE=true BUILDKITE_BUILD_ID=b-1 BUILDKITE_RETRY_COUNT=1 BUILDKITE_STEP_KEY=deploy BUILDKITE_JOB_ID=j
                 BUILDKITE_COMMIT=SHA BUILDKITE_REPO=git@github.com:acme/shop.git BUILDKITE_BUILD_URL=https://b/1",
                "buildkite | b-1 | 2 | deploy | git@github.com:acme/shop.git | https://b/1#j",
            ),
            (
                "TF_BUILD=True BUILD_BUILDID=12 SYSTEM_STAGENAME=prod SYSTEM_STAGEATTEMPT=2 SYSTEM_JOBNAME=deploy
                 SYSTEM_JOBATTEMPT=1 SYSTEM_COLLECTIONURI=https://dev.azure.com/acme/ SYSTEM_TEAMPROJECT=The+Shop
                 BUILD_SOURCEVERSION=SHA BUILD_REPOSITORY_URI=https://acme@dev.azure.com/acme/shop/_git/shop",
                "azure-pipelines | 12 | 1 | prod#2/deploy | https://acme@dev.azure.com/acme/shop/_git/shop | \
                 https://dev.azure.com/acme/The%20Shop/_build/results?buildId=12",
            ),
            (
                "BITBUCKET_BUILD_NUMBER=8 BITBUCKET_REPO_FULL_NAME=acme/shop BITBUCKET_STEP_UUID={s-1}
                 BITBUCKET_STEP_RUN_NUMBER=3 BITBUCKET_COMMIT=SHA",
                "bitbucket-pipelines | acme/shop#8 | 3 | s-1 | https://bitbucket.org/acme/shop | \
                 https://bitbucket.org/acme/shop/pipelines/results/8",
            ),
            (
                "TRAVIS=true TRAVIS_BUILD_ID=44 TRAVIS_JOB_NUMBER=4.1 TRAVIS_COMMIT=SHA TRAVIS_JOB_WEB_URL=https://t/44",
                "travis | 44 | 1 | 4.1 | ? | https://t/44",
            ),
        ];
        for (environment, expected) in cases {
            assert_eq!(shown(environment), expected);
        }
    }

    #[test]
    fn systems_of_ones_own() {
        let cases = [
            (
                "JENKINS_URL=https://j/ JOB_NAME=shop/main BUILD_NUMBER=31 STAGE_NAME=Deploy BUILD_URL=https://j/31/
                 GIT_COMMIT=SHA GIT_URL=https://github.com/acme/shop.git",
                "jenkins | shop/main#31 | 1 | Deploy | https://github.com/acme/shop.git | https://j/31/",
            ),
            (
                "TEAMCITY_VERSION=2025 TEAMCITY_PROJECT_NAME=Shop TEAMCITY_BUILDCONF_NAME=Deploy BUILD_NUMBER=31
                 BUILD_VCS_NUMBER=SHA",
                "teamcity | Shop/Deploy#31 | 1 | Deploy | ? | ",
            ),
            (
                "DRONE=true DRONE_BUILD_NUMBER=6 DRONE_REPO=acme/shop DRONE_STAGE_NAME=default DRONE_STEP_NAME=deploy
                 DRONE_COMMIT_SHA=SHA DRONE_GIT_HTTP_URL=https://g/acme/shop.git DRONE_BUILD_LINK=https://d/6",
                "drone | acme/shop#6 | 1 | default/deploy | https://g/acme/shop.git | https://d/6",
            ),
            (
                "CI=woodpecker DRONE=true CI_REPO=acme/shop CI_PIPELINE_NUMBER=6 CI_WORKFLOW_NAME=ci CI_STEP_NAME=deploy
                 CI_COMMIT_SHA=SHA CI_REPO_CLONE_URL=https://g/acme/shop.git CI_PIPELINE_URL=https://w/6",
                "woodpecker | acme/shop#6 | 1 | ci/deploy | https://g/acme/shop.git | https://w/6",
            ),
        ];
        for (environment, expected) in cases {
            assert_eq!(shown(environment), expected);
        }
    }

    #[test]
    fn a_job_that_is_executed_again_is_another_one() {
        let again = [
            (
                "GITHUB_ACTIONS=true GITHUB_RUN_ID=17 GITHUB_JOB=d GITHUB_RUN_ATTEMPT=",
                "1",
                "2",
            ),
            (
                "GITLAB_CI=true CI_PIPELINE_ID=5 CI_JOB_NAME=d CI_JOB_ID=",
                "77",
                "78",
            ),
            (
                "BUILDKITE=true BUILDKITE_BUILD_ID=b BUILDKITE_STEP_KEY=d BUILDKITE_RETRY_COUNT=",
                "0",
                "1",
            ),
            (
                "TF_BUILD=True BUILD_BUILDID=1 SYSTEM_JOBNAME=d SYSTEM_STAGENAME=s SYSTEM_STAGEATTEMPT=",
                "1",
                "2",
            ),
            (
                "BITBUCKET_BUILD_NUMBER=8 BITBUCKET_REPO_FULL_NAME=a/b BITBUCKET_STEP_RUN_NUMBER=",
                "1",
                "2",
            ),
        ];
        for (environment, first, second) in again {
            let ci = |number: &str| found(&format!("{environment}{number}")).unwrap();
            assert_ne!(ci(first), ci(second), "{environment}");
            assert_eq!(ci(first), ci(first), "{environment}");
        }
    }

    #[test]
    fn outside_of_ci_and_without_a_run_there_is_nothing() {
        let cases = [
            "",
            "CI=true",
            "GITHUB_ACTIONS=true GITHUB_SHA=SHA",
            "GITHUB_ACTIONS=false GITHUB_RUN_ID=1",
            "GITLAB_CI=true CI_PIPELINE_ID=",
            "BUILD_NUMBER=3 JOB_NAME=x",
            "DRONE=true DRONE_BUILD_NUMBER=3",
        ];
        for environment in cases {
            assert_eq!(shown(environment), "nothing", "{environment}");
        }
    }

    #[test]
    fn what_is_no_commit_id_is_told_apart() {
        for word in ["HEAD", "r1234", "12", "1f2e3d4g", "x1f2e3d4"] {
            let ci = found(&format!(
                "BUILDKITE=true BUILDKITE_BUILD_ID=b BUILDKITE_COMMIT={word}"
            ))
            .unwrap();
            assert_eq!(ci.revision, Some(Err(word.to_owned())));
        }
        let upper = found("BUILDKITE=true BUILDKITE_BUILD_ID=b BUILDKITE_COMMIT=ABCDEF12").unwrap();
        assert_eq!(upper.revision, Some(Ok("abcdef12".to_owned())));
    }
}
