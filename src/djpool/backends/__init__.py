"""Values for ENGINE. Each names a Django backend, the mixin and an adapter."""
