"""The core of Signoff: policy, gate, ledger and verbs. Knows no Streamlit and no FastAPI."""
