package v1alpha1

// Condition types. Each has one writer, which applies it with its own field
// manager: Accepted is intake's, Staged the stager's, Compiled the compiler's, and
// all others are the watcher's.
const (
	// ConditionAccepted says whether the spec can be rolled out at all.
	ConditionAccepted = "Accepted"
	// ConditionStaged says whether every chart of the spec can be installed.
	ConditionStaged = "Staged"
	// ConditionCompiled says whether a workflow was made of the spec.
	ConditionCompiled = "Compiled"

	// ConditionReady summarises: the group is what its spec asks for.
	ConditionReady = "Ready"
	// ConditionReconciling is there, and True, only while work goes on (kstatus).
	ConditionReconciling = "Reconciling"
	// ConditionStalled is there, and True, only where nothing will happen until
	// somebody changes something (kstatus).
	ConditionStalled = "Stalled"
	// ConditionDegraded is there, and True, only where the group is rolled out and some of
	// its releases are not what was rolled out any more: gone, going, or failed since.
	ConditionDegraded = "Degraded"

	// The outcome of the last workflow of each type.
	ConditionForwardWorkflowSucceeded  = "ForwardWorkflowSucceeded"
	ConditionReverseWorkflowSucceeded  = "ReverseWorkflowSucceeded"
	ConditionRollbackWorkflowSucceeded = "RollbackWorkflowSucceeded"
)

// Reasons of the conditions Ready and *WorkflowSucceeded, as in the original.
const (
	ReasonProgressing                      = "Progressing"
	ReasonTerminating                      = "Terminating"
	ReasonSucceeded                        = "Succeeded"
	ReasonFailed                           = "Failed"
	ReasonSuspended                        = "Suspended"
	ReasonChartPullFailed                  = "ChartPullFailed"
	ReasonWorkflowTemplateGenerationFailed = "WorkflowTemplateGenerationFailed"
	ReasonWorkflowFailed                   = "WorkflowFailed"
)

// Reasons that the original did not have.
const (
	// ReasonInvalidSpec: the spec contradicts itself; the message names the field.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonAccepted, ReasonStaged and ReasonCompiled: the step is done.
	ReasonAccepted = "Accepted"
	ReasonStaged   = "Staged"
	ReasonCompiled = "Compiled"
	// ReasonUnchanged, of Compiled=True: everything is as the spec asks for already,
	// so that there is no workflow.
	ReasonUnchanged = "Unchanged"
	// ReasonReleasesNotReady, of Degraded: the message names the releases.
	ReasonReleasesNotReady = "ReleasesNotReady"
)

// Reasons of Staged=False: a closed list.
const (
	// ReasonChartNotFound: the repository has no such chart or version.
	ReasonChartNotFound = "ChartNotFound"
	// ReasonRepositoryUnreachable: the registry did not answer; tried again.
	ReasonRepositoryUnreachable = "RepositoryUnreachable"
	// ReasonRepositoryRefused: a policy of this installation forbids the URL.
	ReasonRepositoryRefused = "RepositoryRefused"
	// ReasonAuthenticationFailed: the registry refused the credentials, or the
	// Secret that should hold them is missing or incomplete.
	ReasonAuthenticationFailed = "AuthenticationFailed"
	// ReasonVerificationFailed: the chart does not prove that it was made by whom
	// verify trusts.
	ReasonVerificationFailed = "VerificationFailed"
	// ReasonValuesNotFound: what valuesFrom refers to is not there, or holds no
	// values; tried again.
	ReasonValuesNotFound = "ValuesNotFound"
	// ReasonDigestMismatch: the archive is not what the index or the spec promised.
	ReasonDigestMismatch = "DigestMismatch"
	// ReasonInvalidChart: the archive is not a chart, or not one that can be split
	// as the spec asks.
	ReasonInvalidChart = "InvalidChart"
	// ReasonUnknownSubchart: spec.subcharts names what the chart does not have.
	ReasonUnknownSubchart = "UnknownSubchart"
	// ReasonStagingUnavailable: ChartMuseum did not take the chart, or could not be
	// asked; tried again.
	ReasonStagingUnavailable = "StagingUnavailable"
)
