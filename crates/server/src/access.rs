//! The one table of what is served and who may call it. The router serves nothing that has no row here, and a row without
//! a rule does not build.
use std::fmt::Write as _;

pub use waybill_proto::methods::Method;

/// What a token lets its bearer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Emit for the sources of its token, and fetch the receipts of their events.
    Emit,
    /// Ask everything; change nothing.
    Read,
    /// Everything: ask, emit for any source, and take an operator's decisions.
    Operate,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Emit, Self::Read, Self::Operate];

    /// As token files and command lines say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emit => "emit",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }

    /// The role of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, also without a token. What stands here tells nothing of the ledger.
    Open,
    /// Those who emit.
    Emit,
    /// Those who read, and those who emit about the events of their own sources.
    ReadOwn,
    /// Those who read.
    Read,
    /// Operators.
    Operate,
}

impl Access {
    /// Whether a role is enough.
    #[must_use]
    pub fn allows(self, role: Role) -> bool {
        match self {
            Self::Open | Self::ReadOwn => true,
            Self::Emit => matches!(role, Role::Emit | Role::Operate),
            Self::Read => matches!(role, Role::Read | Role::Operate),
            Self::Operate => role == Role::Operate,
        }
    }
}

/// What is served for machines and people beside the methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/`, which names the ledger and what is here.
    Front,
    /// `/livez`
    Live,
    /// `/readyz`; what stands behind the verdict is told to those who may read.
    Ready,
    /// `/metrics`
    Metrics,
}

impl Page {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Front, Self::Live, Self::Ready, Self::Metrics];

    /// Where it is.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Front => "/",
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Metrics => "/metrics",
        }
    }
}

/// Methods of protocols that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// `grpc.health.v1`, once.
    HealthCheck,
    /// `grpc.health.v1`, and then as it changes.
    HealthWatch,
    /// What the server serves, in the form of today.
    Reflection,
    /// The same as older tools ask for it.
    ReflectionAlpha,
}

impl Foreign {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::HealthCheck,
        Self::HealthWatch,
        Self::Reflection,
        Self::ReflectionAlpha,
    ];

    /// The path that names it.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::HealthCheck => "/grpc.health.v1.Health/Check",
            Self::HealthWatch => "/grpc.health.v1.Health/Watch",
            Self::Reflection => "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            Self::ReflectionAlpha => {
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            }
        }
    }
}

/// Everything that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A method of the contract, as gRPC and as JSON.
    Method(Method),
    /// A method of another contract, as gRPC only.
    Foreign(Foreign),
    /// A page.
    Page(Page),
}

impl Route {
    /// All rows of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        let methods = Method::ALL.iter().copied().map(Self::Method);
        methods
            .chain(Foreign::ALL.into_iter().map(Self::Foreign))
            .chain(Page::ALL.into_iter().map(Self::Page))
    }

    /// The route of a path, which is compared as it was sent: there is one spelling of each.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        Self::all().find(|route| route.path() == path)
    }

    /// Its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Method(method) => method.path(),
            Self::Foreign(foreign) => foreign.path(),
            Self::Page(page) => page.path(),
        }
    }

    /// Who may call it.
    #[must_use]
    pub fn access(self) -> Access {
        match self {
            Self::Method(method) => of_method(method),
            // What each service is called stands in the contract that is public; how it is says nothing of events.
            Self::Foreign(Foreign::HealthCheck | Foreign::HealthWatch) => Access::Open,
            Self::Foreign(Foreign::Reflection | Foreign::ReflectionAlpha) => Access::Read,
            Self::Page(Page::Live | Page::Ready) => Access::Open,
            Self::Page(Page::Front | Page::Metrics) => Access::Read,
        }
    }
}

fn of_method(method: Method) -> Access {
    match method {
        Method::EmitEmit | Method::EmitEmitStream => Access::Emit,
        Method::LedgerGetReceipt => Access::ReadOwn,
        Method::LedgerGetEvent
        | Method::LedgerListEvents
        | Method::LedgerTailEvents
        | Method::LedgerGetCheckpoint
        | Method::LedgerGetInclusionProof
        | Method::LedgerGetConsistencyProof
        | Method::LedgerListRefusals
        | Method::LedgerGetStatus
        | Method::TraceTrace
        | Method::DeliveryDelivery => Access::Read,
        Method::OperateRepublishStream | Method::OperateAcceptEpoch | Method::OperateAcceptGap => {
            Access::Operate
        }
    }
}

/// The table as Markdown, as `deploy/README.md` shows it.
#[must_use]
pub fn table() -> String {
    let mut table =
        "| path | no token | emit | read | operate |\n|---|---|---|---|---|\n".to_owned();
    for route in Route::all() {
        let access = route.access();
        let of_role = |role| match (access, role) {
            (Access::ReadOwn | Access::Emit, Role::Emit) => "own sources",
            _ if access.allows(role) => "yes",
            _ => "",
        };
        let nobody = if access == Access::Open { "yes" } else { "" };
        let [emit, read, operate] = Role::ALL.map(of_role);
        // It cannot fail: a String takes all.
        let _ = writeln!(
            table,
            "| `{}` | {nobody} | {emit} | {read} | {operate} |",
            route.path()
        );
    }
    table
}
