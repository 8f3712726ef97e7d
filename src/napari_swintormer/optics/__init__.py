"""Point-spread functions of lenses, microscopes and motion, and how blurred an image is."""
