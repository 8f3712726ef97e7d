"""Options of a deblurring and preferences of the user; imports only `errors`."""
