"""CWSAM, the ClassWise-SAM-Adapter (arXiv 2401.02326), as it is trained."""
