//! Java management over RMI and Jolokia, pure: serialization, calls, ObjectNames, MBean values.
