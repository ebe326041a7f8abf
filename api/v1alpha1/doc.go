// Package v1alpha1 is the API of Orkestra: the ApplicationGroup, its conditions,
// the names and labels that users and tools rely on, and the validation that a
// schema cannot express.
//
// Every manifest of the original project (Azure/orkestra v0.8) is valid here and
// means what it meant.
//
// +kubebuilder:object:generate=true
// +groupName=orkestra.azure.microsoft.com
package v1alpha1
