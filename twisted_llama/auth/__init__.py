"""
Who may use the gateway: from the bytes of a header to a principal.

  - L{twisted_llama.auth.credentials}: what a request presents;
  - L{twisted_llama.auth.keyfile}: the grammar of the file of keys, pure;
  - L{twisted_llama.auth.checkers}: whether what was presented is a key in force;
  - L{twisted_llama.auth.realm}: who a valid key stands for;
  - L{twisted_llama.auth.login}: the way from the first to the last of these;
  - L{twisted_llama.auth.watch}: notices that the file changed;
  - L{twisted_llama.auth.selection}: picks a checker by its description;
  - L{twisted_llama.auth.keyfile_edit} and L{twisted_llama.auth.keyfile_write}:
    change the file without disturbing what else is in it.
"""
