"""Reports on a course: who attended which lecture, and what was watched of it. docs/report.md defines every number."""
